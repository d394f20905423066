"""The rules of a public transaction pool as geth has them, and of a private one. No network here.

Sources: go-ethereum core/txpool (validation, list.Add: a replacement needs 10 % more of BOTH fee caps; legacypool
keeps transactions whose cap is below the base fee) and miner/ordering.go (highest effective tip first).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from lake.errors import RpcError

PRICE_BUMP_PERCENT = 10  # geth's --txpool.pricebump
INTRINSIC_GAS = 21_000
REFUSED = -32_000  # geth's code for every refused transaction


@dataclass(frozen=True, slots=True)
class PooledTx:
    """A signed EIP-1559 transaction waiting for a block. ``max_block`` is the last block a private one asks for."""

    hash: str
    raw: bytes = field(repr=False)
    sender: str
    nonce: int
    cap_wei: int
    tip_wei: int
    gas: int
    to: str | None
    value: int
    data: bytes = field(repr=False)
    chain_id: int
    private: bool = False
    max_block: int | None = None

    def effective_tip(self, base_fee_wei: int) -> int:
        """Return what the block's builder earns per gas; negative when the cap is below the base fee."""
        return min(self.tip_wei, self.cap_wei - base_fee_wei)

    @property
    def key(self) -> tuple[str, int]:
        """Sender and nonce: what a replacement replaces."""
        return self.sender, self.nonce

    def view(self) -> dict[str, object]:
        """Return the transaction as eth_getTransactionByHash shows a pending one."""
        return {
            "hash": self.hash,
            "type": "0x2",
            "from": self.sender,
            "to": self.to,
            "nonce": hex(self.nonce),
            "value": hex(self.value),
            "gas": hex(self.gas),
            "input": "0x" + self.data.hex(),
            "chainId": hex(self.chain_id),
            "maxFeePerGas": hex(self.cap_wei),
            "maxPriorityFeePerGas": hex(self.tip_wei),
            "gasPrice": hex(self.cap_wei),
            "accessList": [],
            "blockHash": None,
            "blockNumber": None,
            "transactionIndex": None,
        }


def decode(raw: str | bytes, *, private: bool = False, max_block: int | None = None) -> PooledTx:
    """Decode a signed type-2 transaction; RpcError (as a node words it) when it is none."""
    data = bytes(HexBytes(raw))
    if data[:1] != b"\x02":
        raise RpcError("transaction type not supported: send type 2 (EIP-1559)", REFUSED)
    try:
        fields = TypedTransaction.from_bytes(HexBytes(data)).as_dict()
        sender = str(Account.recover_transaction(data))
    except (RLPException, ValidationError, BadSignature, ValueError, TypeError, KeyError) as error:
        raise RpcError(f"rlp: {type(error).__name__}", REFUSED) from error
    to = fields["to"]
    return PooledTx(
        hash="0x" + keccak(data).hex(),
        raw=data,
        sender=sender,
        nonce=int(fields["nonce"]),
        cap_wei=int(fields["maxFeePerGas"]),
        tip_wei=int(fields["maxPriorityFeePerGas"]),
        gas=int(fields["gas"]),
        to=to_checksum_address(bytes(to)) if to else None,
        value=int(fields["value"]),
        data=bytes(HexBytes(fields["data"])),
        chain_id=int(fields["chainId"]),
        private=private,
        max_block=max_block,
    )


def validate(tx: PooledTx, chain_id: int, state_nonce: int, balance_wei: int, gas_limit: int) -> None:
    """Raise RpcError with geth's words when a node would refuse ``tx`` given its sender's state."""
    if tx.chain_id != chain_id:
        raise RpcError(f"invalid chain id for signer: have {tx.chain_id} want {chain_id}", REFUSED)
    if tx.gas > gas_limit:
        raise RpcError("exceeds block gas limit", REFUSED)
    if tx.tip_wei > tx.cap_wei:
        raise RpcError("max priority fee per gas higher than max fee per gas", REFUSED)
    if tx.gas < INTRINSIC_GAS:
        raise RpcError(f"intrinsic gas too low: gas {tx.gas}, minimum needed {INTRINSIC_GAS}", REFUSED)
    if tx.nonce < state_nonce:
        raise RpcError(f"nonce too low: next nonce {state_nonce}, tx nonce {tx.nonce}", REFUSED)
    cost = tx.gas * tx.cap_wei + tx.value
    if cost > balance_wei:
        raise RpcError(
            f"insufficient funds for gas * price + value: balance {balance_wei}, tx cost {cost}, "
            f"overshot {cost - balance_wei}",
            REFUSED,
        )


def outbids(new: PooledTx, old: PooledTx) -> bool:
    """Return whether ``new`` may replace ``old``: at least 10 % more of both fee caps."""
    return all(
        100 * fresh >= (100 + PRICE_BUMP_PERCENT) * stale and fresh > stale
        for fresh, stale in ((new.cap_wei, old.cap_wei), (new.tip_wei, old.tip_wei))
    )


@dataclass(slots=True)
class Mempool:
    """Public and private transactions by sender and nonce. ``private`` may hold several for one nonce."""

    public: dict[tuple[str, int], PooledTx] = field(default_factory=dict)
    private: dict[str, PooledTx] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, tx: PooledTx) -> str:
        """Accept ``tx`` and return its hash; RpcError "already known" or "replacement transaction underpriced".

        The private pool takes everything and answers nothing, as private relays do: a resend without a fee bump
        looks like a success there.
        """
        if tx.private:
            self.private.setdefault(tx.hash, tx)
        else:
            held = self.public.get(tx.key)
            if held is not None and held.hash == tx.hash:
                raise RpcError("already known", REFUSED)
            if held is not None and not outbids(tx, held):
                raise RpcError("replacement transaction underpriced", REFUSED)
            self.public[tx.key] = tx
        self._order.setdefault(tx.hash, next(self._count))
        return tx.hash

    def cancel_private(self, tx_hash: str) -> bool:
        """Forget a private transaction; False when it is not held."""
        return self.private.pop(tx_hash, None) is not None

    def find(self, tx_hash: str) -> PooledTx | None:
        """Return the public pending transaction with this hash, if any."""
        return next((t for t in self.public.values() if t.hash == tx_hash), None)

    def pending_nonce(self, sender: str, state_nonce: int) -> int:
        """Return the first nonce at or above ``state_nonce`` without a public transaction."""
        nonce = state_nonce
        while (sender, nonce) in self.public:
            nonce += 1
        return nonce

    def settle(self, nonces: Mapping[str, int]) -> None:
        """Drop everything whose nonce is used up, given the state nonces of senders."""
        self.public = {k: t for k, t in self.public.items() if t.nonce >= nonces.get(t.sender, 0)}
        self.private = {k: t for k, t in self.private.items() if t.nonce >= nonces.get(t.sender, 0)}

    def senders(self) -> set[str]:
        """Return who has transactions waiting."""
        return {t.sender for t in [*self.public.values(), *self.private.values()]}

    def choose(
        self,
        base_fee_wei: int,
        nonces: Mapping[str, int],
        gas_limit: int,
        block: int,
        skip: Iterable[str] = (),
        *,
        expire: bool = True,
    ) -> list[PooledTx]:
        """Return the transactions of block number ``block`` in order: by effective tip, nonces in sequence.

        Those that do not pay the base fee, leave a nonce gap, have expired (private ones, unless ``expire`` is off) or
        are in ``skip`` wait.
        """
        left = dict(nonces)
        taken: list[PooledTx] = []
        barred = set(skip)
        waiting: dict[tuple[str, int], PooledTx] = {}
        for tx in [*self.public.values(), *self.private.values()]:
            expired = expire and tx.max_block is not None and block > tx.max_block
            if expired or tx.hash in barred or tx.effective_tip(base_fee_wei) < 0:
                continue
            rival = waiting.get(tx.key)
            if rival is None or tx.effective_tip(base_fee_wei) > rival.effective_tip(base_fee_wei):
                waiting[tx.key] = tx
        while True:
            ready = [waiting[s, n] for s, n in left.items() if (s, n) in waiting and waiting[s, n].gas <= gas_limit]
            if not ready:
                return taken
            best = min(ready, key=lambda t: (-t.effective_tip(base_fee_wei), self._order[t.hash]))
            taken.append(best)
            gas_limit -= best.gas
            left[best.sender] += 1

    def copy(self) -> Mempool:
        """Return an independent copy, for a snapshot."""
        return Mempool(dict(self.public), dict(self.private), dict(self._order), self._count)

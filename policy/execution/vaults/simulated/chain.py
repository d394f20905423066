"""A small chain in memory: blocks, base fee, geth's replacement rule, receipts, reorgs, private transactions.

It carries one world (pools, prices, the vault's books) as immutable values, so that a reorg is dropping blocks. Its
transactions are plain JSON bytes from :class:`SimSigner`: it proves the engine, not cryptography.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Protocol

from lake.errors import RpcError
from policy.execution.base import Receipt
from policy.execution.submission.channels import Reply, classify
from policy.execution.submission.gas import BUMP_PERCENT, FeeRules, next_base_fee
from policy.execution.submission.node import BlockHeader, FeeHistory
from policy.execution.submission.signer import SignedTx, TxRequest
from policy.execution.vaults.simulated.world import SimWorld

GAS_LIMIT = 30_000_000
RULES = FeeRules(min_base_fee_wei=7)  # L1's constants; below 7 wei the rule itself never falls


@dataclass(frozen=True, slots=True)
class SimTx:
    """A decoded transaction; ``max_block`` bounds a private one."""

    sender: str
    to: str
    data: bytes
    nonce: int
    gas_limit: int
    max_fee_wei: int
    tip_wei: int
    chain_id: int
    tx_hash: str
    max_block: int | None = None


@dataclass(frozen=True, slots=True)
class SimBlock:
    """A block with the world after it."""

    head: BlockHeader
    parent: str
    txs: tuple[SimTx, ...]
    receipts: tuple[Receipt, ...]
    world: SimWorld
    nonces: Mapping[str, int]
    wei: Mapping[str, int]


Execute = Callable[[SimWorld, SimTx, int, int], tuple[SimWorld, int, str | None]]
"""Contract code: (world, transaction, block number, block time) -> (world after, gas used, revert reason)."""


class SimSigner:
    """Signer without a key for the simulated chain; a real chain refuses what it signs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __repr__(self) -> str:
        return f"SimSigner({self.address})"

    def sign(self, tx: TxRequest) -> SignedTx:
        """Return canonical JSON bytes and their hash."""
        body = {**asdict(tx), "data": tx.data.hex(), "sender": self.address}
        raw = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        return SignedTx(raw, "0x" + sha256(raw).hexdigest())

    def sign_message(self, text: str) -> str:
        """Return a hash in the place of a signature."""
        return "0x" + sha256(text.encode()).hexdigest()


def decode(raw: bytes) -> SimTx:
    """Return the transaction in ``raw``; RpcError if it is none."""
    try:
        body = json.loads(raw)
        return SimTx(
            body["sender"],
            body["to"],
            bytes.fromhex(body["data"]),
            body["nonce"],
            body["gas_limit"],
            body["max_fee_wei"],
            body["tip_wei"],
            body["chain_id"],
            "0x" + sha256(raw).hexdigest(),
        )
    except (ValueError, KeyError, TypeError):
        raise RpcError("the simulated chain takes transactions of its own signer only", -32000) from None


@dataclass(frozen=True, slots=True)
class Genesis:
    """Where a simulated chain begins: its first block's number, time (Unix seconds) and base fee, wei."""

    chain_id: int = 31_337
    time: int = 1_700_000_000
    number: int = 1
    base_fee_wei: int = 10**9


class SimChain:
    """The chain itself; also a Node (see policy.execution.submission.node) that always tells the truth."""

    def __init__(
        self,
        world: SimWorld,
        execute: Execute,
        first: Genesis | None = None,
        *,
        block_time_s: int = 12,
        wei: Mapping[str, int] | None = None,
        background_gas: int = GAS_LIMIT // 2,
    ) -> None:
        first = first or Genesis()
        self.id = first.chain_id
        self.block_time_s = block_time_s
        self.background_gas = background_gas  # other people's traffic in every block
        self.tip_floor_wei = 10**8
        self.public: dict[tuple[str, int], SimTx] = {}
        self.private: dict[str, SimTx] = {}
        self.executions = 0  # plans that ever executed in the canonical chain's history, reorged ones included
        self.past: dict[str, Receipt] = {}  # receipts of blocks before the first one kept, by transaction
        self._execute = execute
        self._salt = 0
        head = BlockHeader(
            first.number, _hash(f"genesis{first.time}"), first.time, first.base_fee_wei, GAS_LIMIT // 2, GAS_LIMIT
        )
        self.blocks = [SimBlock(head, "0x0", (), (), world, {}, dict(wei or {}))]

    # ---- node

    def chain_id(self) -> int:
        """Return the chain id."""
        return self.id

    def head(self) -> BlockHeader:
        """Return the newest block."""
        return self.blocks[-1].head

    def block(self, number: int | str) -> SimBlock:
        """Return the canonical block ``number`` (or "latest"); RpcError where there is none."""
        at = len(self.blocks) - 1 if isinstance(number, str) else number - self.blocks[0].head.number
        if not 0 <= at < len(self.blocks):
            raise RpcError(f"block {number} is not there", -32000)
        return self.blocks[at]

    def block_hash(self, number: int) -> str | None:
        """Return the canonical hash at ``number``."""
        at = number - self.blocks[0].head.number
        if at < 0:
            return next((r.block_hash for r in self.past.values() if r.block_number == number), None)
        return self.blocks[at].head.hash if at < len(self.blocks) else None

    def account_nonce(self, sender: str, block: int | str = "latest") -> int:
        """Return the number of mined transactions of ``sender`` as of ``block``."""
        return self.block(block).nonces.get(sender, 0)

    def balance(self, sender: str) -> int:
        """Return gas money, wei."""
        return self.blocks[-1].wei.get(sender, 0)

    def fee_history(self, blocks: int) -> FeeHistory:
        """Return the last blocks' fees; an empty block has tip 0, as nodes report it."""
        recent = self.blocks[-blocks:]
        return FeeHistory(
            tuple(b.head.base_fee_wei for b in recent),
            tuple(b.head.gas_used / b.head.gas_limit for b in recent),
            tuple(self.tip_floor_wei if b.head.gas_used else 0 for b in recent),
        )

    def receipt(self, tx_hash: str) -> Receipt | None:
        """Return the receipt of a mined transaction."""
        for block in reversed(self.blocks):
            for receipt in block.receipts:
                if receipt.tx_hash == tx_hash:
                    return receipt
        return self.past.get(tx_hash)

    def knows(self, tx_hash: str) -> bool:
        """Return whether it is mined or in the public pool."""
        return self.receipt(tx_hash) is not None or any(t.tx_hash == tx_hash for t in self.public.values())

    # ---- writes

    def send_raw(self, raw: bytes) -> str:
        """Take a transaction into the public pool by geth's rules; RpcError with geth's words otherwise."""
        tx = decode(raw)
        self._admit(tx)
        key = (tx.sender, tx.nonce)
        held = self.public.get(key)
        if held is not None:
            if held.tx_hash == tx.tx_hash:
                raise RpcError("already known", -32000)
            if not _replaces(tx, held):
                raise RpcError("replacement transaction underpriced", -32000)
        self.public[key] = tx
        return tx.tx_hash

    def send_private(self, raw: bytes, max_block: int | None = None) -> str:
        """Take a transaction past the public pool; it answers nothing about underpricing, as real relays do."""
        tx = replace(decode(raw), max_block=max_block)
        self._admit(tx)
        self.private[tx.tx_hash] = tx
        return tx.tx_hash

    def _admit(self, tx: SimTx) -> None:
        if tx.chain_id != self.id:
            raise RpcError("invalid chain id for signer", -32000)
        if tx.nonce < self.account_nonce(tx.sender):
            raise RpcError("nonce too low", -32000)
        if tx.gas_limit * tx.max_fee_wei > self.balance(tx.sender):
            raise RpcError("insufficient funds for gas * price + value", -32000)

    # ---- time

    def mine(self, *, include: bool = True, skip_s: int = 0, background: int | None = None) -> SimBlock:
        """Append a block; ``include=False`` leaves our transactions waiting, ``skip_s`` lets extra time pass."""
        parent = self.blocks[-1]
        head = parent.head
        base = next_base_fee(head, RULES)
        number, time = head.number + 1, head.time + self.block_time_s + skip_s
        used = self.background_gas if background is None else background
        world, nonces, wei = parent.world, dict(parent.nonces), dict(parent.wei)
        self._salt += 1
        waiting = sorted([t.tx_hash for t in self.public.values()] + list(self.private)) if include else []
        block_hash = _hash(f"{head.hash}{number}{self._salt}{''.join(waiting)}")  # as real ones, it commits to these
        txs: list[SimTx] = []
        receipts: list[Receipt] = []
        while include and (tx := self._best(nonces, wei, base, number)) is not None:
            before = world
            world, gas, revert = self._execute(world, tx, number, time)
            world = before if revert is not None else world
            price = base + min(tx.tip_wei, tx.max_fee_wei - base)
            nonces[tx.sender] = tx.nonce + 1
            wei[tx.sender] -= gas * price
            txs.append(tx)
            log = {"revert": revert} if revert is not None else {}
            receipts.append(Receipt(tx.tx_hash, number, block_hash, int(revert is None), gas, price, (log,)))
            self.executions += int(revert is None and bool(tx.data))
            used += gas
        block = SimBlock(
            BlockHeader(number, block_hash, time, base, min(used, GAS_LIMIT), GAS_LIMIT),
            head.hash,
            tuple(txs),
            tuple(receipts),
            world,
            nonces,
            wei,
        )
        self.blocks.append(block)
        self._forget(nonces)
        return block

    def _best(self, nonces: Mapping[str, int], wei: Mapping[str, int], base: int, number: int) -> SimTx | None:
        ready = [
            tx
            for tx in (*self.public.values(), *self.private.values())
            if tx.nonce == nonces.get(tx.sender, 0)
            and tx.max_fee_wei >= base
            and (tx.max_block is None or number <= tx.max_block)
            and wei.get(tx.sender, 0) >= tx.gas_limit * tx.max_fee_wei
        ]
        return max(ready, key=lambda tx: min(tx.tip_wei, tx.max_fee_wei - base), default=None)

    def _forget(self, nonces: Mapping[str, int]) -> None:
        self.public = {k: t for k, t in self.public.items() if t.nonce >= nonces.get(t.sender, 0)}
        self.private = {k: t for k, t in self.private.items() if t.nonce >= nonces.get(t.sender, 0)}

    def reorg(self, depth: int, *, keep: bool = True, delay: int = 0) -> None:
        """Replace the last ``depth`` blocks by as many others plus one.

        ``keep``: the dropped transactions return to the pool (as in geth) and may land again after ``delay`` blocks of
        the new branch; otherwise they are lost.
        """
        depth = min(depth, len(self.blocks) - 1)
        dropped = self.blocks[len(self.blocks) - depth :]
        del self.blocks[len(self.blocks) - depth :]
        if keep:
            for block in dropped:
                for tx in block.txs:
                    self.public.setdefault((tx.sender, tx.nonce), tx)
        for i in range(depth + 1):
            self.mine(include=i >= delay)

    def set_world(self, world: SimWorld) -> None:
        """Replace the world at the head without a block: what other people do to prices and pools."""
        self.blocks[-1] = replace(self.blocks[-1], world=world)

    @property
    def world(self) -> SimWorld:
        """The world at the head."""
        return self.blocks[-1].world


class SimPool(Protocol):
    """What takes signed bytes: a :class:`SimChain`, or a faulty front of one."""

    def send_raw(self, raw: bytes) -> str:
        """Take into the public pool."""
        ...

    def send_private(self, raw: bytes, max_block: int | None = None) -> str:
        """Take past the public pool."""
        ...


class SimChannel:
    """Hands signed bytes to a simulated chain, in the open or past its public pool; implements ``relay.Channel``."""

    def __init__(self, pool: SimPool, *, private: bool = False) -> None:
        self._pool = pool
        self.private = private
        self.name = "private" if private else "public"

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Hand over ``raw``."""
        del next_block
        try:
            if self.private:
                self._pool.send_private(raw, max_block)
            else:
                self._pool.send_raw(raw)
        except RpcError as error:
            return classify(error)
        return Reply(taken=True, text=tx_hash)

    def cancel(self, tx_hash: str) -> Reply:
        """Take nothing back."""
        return Reply(None, f"{tx_hash} stays")


def _replaces(new: SimTx, old: SimTx) -> bool:
    """Return geth's rule: both caps at least 10 % above the old ones."""
    return new.max_fee_wei * 100 >= old.max_fee_wei * BUMP_PERCENT and new.tip_wei * 100 >= old.tip_wei * BUMP_PERCENT


def _hash(text: str) -> str:
    return "0x" + sha256(text.encode()).hexdigest()

"""A node as the world sees it: Anvil does the EVM, this decides which transactions a block holds, and in what order.

Anvil alone accepts replacements at +1 wei, deletes underpriced transactions, orders by fee cap, forgets reorged
transactions and knows no private route; here each block is handed to it transaction by transaction instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from eth_account import Account
from eth_utils.address import to_checksum_address

from lake.errors import RpcError
from lake.evm import BlockHeader, head_of, next_base_fee
from lake.rpc import Rpc, quantity
from lake.universe import CHAINS, Chain
from policy.localnet.accounts import builder, dev_accounts
from policy.localnet.bundles import Backrun, Backrunner, LocalBundle, Refund, Searcher, Shared
from policy.localnet.mempool import INTRINSIC_GAS, REFUSED, Mempool, PooledTx, decode, validate

BLOCK_TIME_S = 12
_TIP = 10**9  # what eth_sendTransaction bids for the unlocked development accounts


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What a snapshot keeps besides the chain."""

    pool: Mempool
    bundles: list[LocalBundle]
    shared: dict[str, Shared]
    backruns: list[tuple[Backrun, int, int]]


@dataclass
class LocalNode:
    """Pool rules and block building over ``admin``, the RPC of an Anvil that does not mine by itself.

    ``automine`` makes a block for every accepted transaction. ``leaky_relay`` keeps cancelled and expired private
    transactions alive, as relays that forwarded them have done. All methods may be called from any thread.
    """

    admin: Rpc
    chain: Chain
    automine: bool = False
    leaky_relay: bool = False
    block_time_s: int = BLOCK_TIME_S
    pool: Mempool = field(default_factory=Mempool)
    bundles: list[LocalBundle] = field(default_factory=list)
    searchers: list[Searcher] = field(default_factory=list)
    backrunners: list[Backrunner] = field(default_factory=list)
    shared: dict[str, Shared] = field(default_factory=dict)
    backruns: list[tuple[Backrun, int, int]] = field(default_factory=list)  # handed in, with their first and last block
    refused: list[tuple[str, str]] = field(default_factory=list)  # (hash, why) of what the node would not take
    watchers: list[Callable[[int], None]] = field(default_factory=list)  # told the number of every canonical block
    lock: threading.RLock = field(default_factory=threading.RLock)
    _known: dict[str, PooledTx] = field(default_factory=dict)
    _saved: dict[str, _Waiting] = field(default_factory=dict)

    def head(self) -> BlockHeader:
        """Return the newest block's header."""
        return head_of(self.admin)

    def next_base_fee(self) -> int:
        """Return the base fee of the next block in wei."""
        head = self.head()
        return next_base_fee(head.base_fee_wei, head.gas_used, head.gas_limit, self.chain)

    def submit(self, raw: str | bytes, *, private: bool = False, max_block: int | None = None) -> str:
        """Take a signed transaction into the pool; return its hash. RpcError in geth's words when refused."""
        tx = decode(raw, private=private, max_block=max_block)
        with self.lock:
            nonce, balance = self._account(tx.sender)
            validate(tx, self.chain.chain_id, nonce, balance, self.head().gas_limit)
            self.pool.add(tx)
            self._known[tx.hash] = tx
            if self.automine:
                self.mine()
        return tx.hash

    def cancel_private(self, tx_hash: str) -> bool:
        """Take a private transaction back; return what the relay answers, which of a leaky one means nothing."""
        with self.lock:
            return tx_hash in self.pool.private if self.leaky_relay else self.pool.cancel_private(tx_hash)

    def add_bundle(self, bundle: LocalBundle) -> str:
        """Keep a bundle for its blocks, in place of one of the same name for the same block; return its hash."""
        with self.lock:
            same = (bundle.uuid, bundle.first_block)
            self.bundles = [b for b in self.bundles if b.uuid is None or (b.uuid, b.first_block) != same]
            self.bundles.append(bundle)
            self._known |= {t.hash: t for t in bundle.txs}
            if self.automine:
                self.mine()
        return bundle.hash

    def share(self, shared: Shared) -> str:
        """Take a transaction as a private one and show its hints; return the hash searchers call it by."""
        with self.lock:
            self.shared[shared.hash] = shared
            self.submit(shared.tx.raw, private=True, max_block=shared.last_block)
        return shared.hash

    def backrun(self, backrun: Backrun, first_block: int, last_block: int) -> str:
        """Keep a back-run for its blocks; RpcError when what it names is not shared. Return the bundle's hash."""
        with self.lock:
            found = self.shared.get(backrun.shared)
            if found is None:
                raise RpcError(f"unknown transaction {backrun.shared}", REFUSED)
            self.backruns.append((backrun, first_block, last_block))
            self._known |= {t.hash: t for t in backrun.txs}
            return backrun.after(found).hash

    def cancel_bundles(self, uuid: str) -> bool:
        """Forget the bundles of this name; False when there are none."""
        with self.lock:
            kept = [b for b in self.bundles if b.uuid != uuid]
            found = len(kept) < len(self.bundles)
            self.bundles = kept
            return found

    def mine(
        self,
        blocks: int = 1,
        seconds: int | None = None,
        base_fee_wei: int | None = None,
        first: Sequence[Mapping[str, str]] = (),
    ) -> BlockHeader:
        """Build ``blocks`` blocks, each ``seconds`` after the last; return the newest.

        ``base_fee_wei`` sets the first one's base fee (to replay a gas history); EIP-1559 sets the others'. ``first``
        are calls from development accounts at the top of the first block (the world's own: feeds, arbitrage).
        """
        step = self.block_time_s if seconds is None else seconds
        with self.lock:
            for index in range(blocks):
                head = self.head()
                forced = base_fee_wei if index == 0 else None
                fee = next_base_fee(head.base_fee_wei, head.gas_used, head.gas_limit, self.chain)
                fee = fee if forced is None else forced
                world = first if index == 0 else ()
                chosen = self._choose(head, fee, head.time + step, world)
                refused = self._block(chosen, head.time + step, fee, world)
                self._settle(head.number + 1, refused)
                self._tell(head.number + 1)
            return self.head()

    def snapshot(self) -> str:
        """Save chain and pool; return the id for :meth:`revert`."""
        with self.lock:
            saved = str(self.admin.call("evm_snapshot"))
            self._saved[saved] = _Waiting(self.pool.copy(), list(self.bundles), dict(self.shared), list(self.backruns))
            return saved

    def revert(self, saved: str) -> bool:
        """Go back to a snapshot, which is used up by it; False if there is none of this id."""
        with self.lock:
            if saved not in self._saved:
                return False
            try:
                if self.admin.call("evm_revert", [saved]) is not True:
                    return False
            except RpcError as error:
                if error.code is None:
                    raise
                return False  # a reorg went past it
            self.admin.call("anvil_dropAllTransactions")
            kept = self._saved.pop(saved)
            self.pool, self.bundles, self.shared, self.backruns = kept.pool, kept.bundles, kept.shared, kept.backruns
            return True

    def reorg(self, depth: int, drop: Sequence[str] = (), seconds: int | None = None) -> list[str]:
        """Replace the newest ``depth`` blocks by empty ones; return the hashes of the transactions set free.

        They return to the pool they came from, but for those in ``drop``, which are lost.
        """
        step = self.block_time_s + 1 if seconds is None else seconds
        with self.lock:
            top = self.head().number
            freed: list[str] = []
            for number in range(top - depth + 1, top + 1):
                block = self.admin.call("eth_getBlockByNumber", [hex(number), False])
                freed += [str(h) for h in block["transactions"]] if isinstance(block, dict) else []
            raws = {h: self._mined(h) for h in freed if h not in self._known}
            self.admin.call("anvil_rollback", [depth])
            self.admin.call("anvil_dropAllTransactions")
            for tx_hash in freed:
                tx = self._known.get(tx_hash) or raws.get(tx_hash)
                if tx is not None and tx_hash not in drop and (tx.private or tx.key not in self.pool.public):
                    self.pool.add(tx)
            for _ in range(depth):
                head = self.head()
                fee = next_base_fee(head.base_fee_wei, head.gas_used, head.gas_limit, self.chain)
                self._block([], head.time + step, fee)
            for number in range(top - depth + 1, top + 1):
                self._tell(number)
            return freed

    def sign_and_submit(self, tx: Mapping[str, object]) -> str:
        """Serve eth_sendTransaction for the development accounts: fill in what is missing, sign, submit."""
        sender = str(tx.get("from", ""))
        account = next((a for a in dev_accounts().values() if a.address.lower() == sender.lower()), None)
        if account is None:
            raise RpcError("unknown account", REFUSED)
        with self.lock:
            state, _ = self._account(account.address)
            nonce = quantity(tx["nonce"]) if "nonce" in tx else self.pool.pending_nonce(account.address, state)
            call = {k: v for k, v in tx.items() if k in {"from", "to", "data", "input", "value"}}
            gas = quantity(tx["gas"]) if "gas" in tx else quantity(self.admin.call("eth_estimateGas", [call])) * 5 // 4
            tip = quantity(tx.get("maxPriorityFeePerGas", hex(_TIP)))
            cap = quantity(tx.get("maxFeePerGas", hex(2 * self.next_base_fee() + tip)))
            fields = {
                "type": 2,
                "chainId": self.chain.chain_id,
                "nonce": nonce,
                "value": quantity(tx.get("value", "0x0")),
                "data": tx.get("data", tx.get("input", "0x")),
                "gas": gas,
                "maxFeePerGas": cap,
                "maxPriorityFeePerGas": tip,
            }
            if tx.get("to"):
                fields["to"] = tx["to"]
            return self.submit(bytes(Account.sign_transaction(fields, account.key).raw_transaction))

    def _tell(self, number: int) -> None:
        for watcher in self.watchers:
            watcher(number)

    def _account(self, address: str) -> tuple[int, int]:
        calls = [("eth_getTransactionCount", [address, "latest"]), ("eth_getBalance", [address, "latest"])]
        nonce, balance = self.admin.batch(calls)
        return quantity(nonce), quantity(balance)

    def _nonces(self, senders: set[str]) -> dict[str, int]:
        order = sorted(senders)
        counts = self.admin.batch([("eth_getTransactionCount", [s, "latest"]) for s in order]) if order else []
        return {s: quantity(c) for s, c in zip(order, counts, strict=True)}

    def _mined(self, tx_hash: str) -> PooledTx:
        return decode(str(self.admin.call("eth_getRawTransactionByHash", [tx_hash])))

    def _choose(self, head: BlockHeader, fee: int, time: int, world: Sequence[Mapping[str, str]]) -> list[PooledTx]:
        """Return the next block's transactions: bundles that hold, best paid first, then the pool."""
        number = head.number + 1
        offers = [b for b in self.bundles if b.first_block <= number <= b.last_block]
        offers = [b for b in offers if b.min_time <= time <= b.max_time]
        nonces = self._nonces(self.pool.senders() | {t.sender for b in offers for t in b.txs})
        expire = not self.leaky_relay
        public = [t for t in self.pool.choose(fee, nonces, head.gas_limit, number, expire=expire) if not t.private]
        for searcher in self.searchers:
            offers += searcher.bundles(public, fee, number)
        offers += self._matched(number, fee)
        top: list[PooledTx] = []
        for bundle in sorted(offers, key=lambda b: -max(t.effective_tip(fee) for t in b.txs)):
            taken = {t.key for t in top}
            if any(t.key in taken for t in bundle.txs):
                continue
            receipts = self._tried(top, bundle, time, fee, world)
            if receipts is not None:
                top += bundle.txs
                if bundle.refund is not None:
                    top += self._refund(bundle.refund, receipts, fee, sum(t.sender == builder().address for t in top))
        nonces |= self._nonces({t.sender for t in top} - nonces.keys())
        for tx in top:
            nonces[tx.sender] = max(nonces[tx.sender], tx.nonce + 1)
        room = head.gas_limit - sum(t.gas for t in top)
        return top + self.pool.choose(fee, nonces, room, number, {t.hash for t in top}, expire=expire)

    def _matched(self, number: int, fee: int) -> list[LocalBundle]:
        """Return the back-runs of shared transactions for block ``number``, each behind what it names."""
        live = {h: s for h, s in self.shared.items() if s.first_block <= number <= s.last_block}
        found = [b for b, first, last in self.backruns if first <= number <= last]
        if live and self.backrunners:
            hints = [s.hint(logs) for s in live.values() if (logs := self._logs(s.tx)) is not None]
            for backrunner in self.backrunners:
                found += backrunner.backruns(hints, fee, number)
        return [b.after(live[b.shared]) for b in found if b.shared in live]

    def _logs(self, tx: PooledTx) -> list[Mapping[str, object]] | None:
        """Return the logs ``tx`` would leave on the newest block, None when it would fail."""
        call = {
            "from": tx.sender,
            "to": tx.to,
            "data": "0x" + tx.data.hex(),
            "value": hex(tx.value),
            "gas": hex(tx.gas),
        }
        answer = self.admin.call("eth_simulateV1", [{"blockStateCalls": [{"calls": [call]}]}, "latest"])
        result = answer[0]["calls"][0] if isinstance(answer, list) else {}
        return list(result["logs"]) if result.get("status") == "0x1" else None

    def _refund(self, refund: Refund, receipts: Mapping[str, Mapping[str, str]], fee: int, sent: int) -> list[PooledTx]:
        """Return the builder's payment of a refund, its own gas taken off; none where nothing is left.

        What a bundle pays are the tips of ``refund.paying``; ``sent``: payments of this block so far.
        """
        paid = [receipts[h] for h in refund.paying]
        tips = sum(quantity(r["gasUsed"]) * (quantity(r["effectiveGasPrice"]) - fee) for r in paid)
        amount = tips * refund.percent // 100 - INTRINSIC_GAS * fee
        if amount <= 0:
            return []
        me = builder()
        nonce, _ = self._account(me.address)
        fields = {
            "type": 2,
            "chainId": self.chain.chain_id,
            "nonce": nonce + sent,
            "value": amount,
            "data": b"",
            "gas": INTRINSIC_GAS,
            "maxFeePerGas": fee,
            "maxPriorityFeePerGas": 0,
            "to": to_checksum_address(refund.to),
        }
        return [decode(bytes(Account.sign_transaction(fields, me.key).raw_transaction), private=True)]

    def _tried(
        self, before: Sequence[PooledTx], bundle: LocalBundle, time: int, fee: int, world: Sequence[Mapping[str, str]]
    ) -> dict[str, Mapping[str, str]] | None:
        """Return the receipts of ``bundle`` after ``before``, tried on a snapshot; None if any fails.

        Those that may revert count as landed.
        """
        saved = self.admin.call("evm_snapshot")
        try:
            self._block([*before, *bundle.txs], time, fee, world)
            receipts = self.admin.batch([("eth_getTransactionReceipt", [t.hash]) for t in bundle.txs])
        finally:
            self.admin.call("evm_revert", [saved])
            self.admin.call("anvil_dropAllTransactions")
        found: dict[str, Mapping[str, str]] = {}
        for tx, receipt in zip(bundle.txs, receipts, strict=True):
            if not isinstance(receipt, dict) or (quantity(receipt["status"]) == 0 and tx.hash not in bundle.may_revert):
                return None
            found[tx.hash] = receipt
        return found

    def _block(
        self, txs: Sequence[PooledTx], time: int, fee: int, world: Sequence[Mapping[str, str]] = ()
    ) -> list[tuple[str, str]]:
        """Mine one block of exactly these; return (hash, why) of those the node would not take."""
        self.admin.call("evm_setNextBlockTimestamp", [hex(time)])
        self.admin.call("anvil_setNextBlockBaseFeePerGas", [hex(fee)])
        for call in world:
            self.admin.call("eth_sendTransaction", [{"maxFeePerGas": hex(fee), "maxPriorityFeePerGas": "0x0", **call}])
        refused = []
        for tx in txs:
            try:
                self.admin.call("eth_sendRawTransaction", ["0x" + tx.raw.hex()])
            except RpcError as error:
                if error.code is None:
                    raise
                refused.append((tx.hash, str(error)))
        self.admin.call("evm_mine")
        return refused

    def _settle(self, number: int, refused: Sequence[tuple[str, str]]) -> None:
        """Forget what was mined or can never be, and what the node refused."""
        self.admin.call("anvil_dropAllTransactions")
        self.pool.settle(self._nonces(self.pool.senders()))
        self.refused += refused
        gone = {h for h, _ in refused}
        self.pool.public = {k: t for k, t in self.pool.public.items() if t.hash not in gone}
        self.bundles = [b for b in self.bundles if b.last_block > number]
        self.shared = {h: s for h, s in self.shared.items() if s.tx.hash in self.pool.private and s.last_block > number}
        self.backruns = [row for row in self.backruns if row[2] > number and row[0].shared in self.shared]


def node_for(admin: Rpc, chain_id: int, *, automine: bool = False) -> LocalNode:
    """Return a Node over an Anvil with ``chain_id``; a chain of no known constants gets Ethereum's."""
    chain = CHAINS.get(chain_id) or replace(CHAINS[1], chain_id=chain_id, name=f"chain {chain_id}")
    return LocalNode(admin, chain, automine=automine)

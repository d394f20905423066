"""What searchers hand to the block's builder: bundles, and back-runs of transactions they know by their hints only.

The rules of MEV-Share (mev_sendBundle, v0.1): a shared transaction shows what its sender allows; a back-run names it
by hash and comes after it; of what the back-run pays the builder, the sender's share is paid to the refund address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from eth_utils.crypto import keccak

from policy.localnet.mempool import PooledTx

HINTS = frozenset({"hash", "tx_hash", "logs", "contract_address", "function_selector", "calldata"})
Log = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refund:
    """What the builder returns of a bundle's payment; ``paying`` are the hashes of those who pay it."""

    percent: int
    to: str
    paying: frozenset[str]


@dataclass(frozen=True, slots=True)
class LocalBundle:
    """Transactions that land together, in this order, at the top of a block, or not at all.

    Those in ``may_revert`` may fail; ``first_block`` .. ``last_block`` and the Unix times bound where it may land.
    """

    txs: tuple[PooledTx, ...]
    first_block: int
    last_block: int
    may_revert: frozenset[str] = frozenset()
    min_time: int = 0
    max_time: int = 2**63
    uuid: str | None = None  # names the bundle for replacing and cancelling
    refund: Refund | None = None

    @property
    def hash(self) -> str:
        """Keccak of the transactions' hashes, as relays compute it."""
        return bundle_hash(self.txs)


class Searcher(Protocol):
    """Someone who reads the public pool before every block."""

    def bundles(self, pending: Sequence[PooledTx], base_fee_wei: int, block: int) -> Sequence[LocalBundle]:
        """Return bundles for block number ``block``; ``pending`` holds public transactions only."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """A transaction given to the matchmaker, with what may be shown of it and what is asked for a back-run."""

    tx: PooledTx = field(repr=False)
    hints: frozenset[str]
    refund_percent: int
    refund_to: str
    first_block: int
    last_block: int

    @property
    def hash(self) -> str:
        """What searchers call it by: it does not tell the transaction's own hash."""
        return bundle_hash((self.tx,))

    def hint(self, logs: Sequence[Log]) -> Hint:
        """Return what searchers see; ``logs`` are those it would leave now."""
        tx, shown = self.tx, self.hints
        return Hint(
            hash=self.hash,
            tx_hash=tx.hash if "tx_hash" in shown else None,
            to=tx.to if "contract_address" in shown else None,
            selector=tx.data[:4] if "function_selector" in shown else None,
            calldata=tx.data if "calldata" in shown else None,
            logs=tuple(logs) if "logs" in shown else (),
        )


@dataclass(frozen=True, slots=True)
class Hint:
    """What a searcher may know of a shared transaction; fields it may not know are None or empty."""

    hash: str
    tx_hash: str | None = None
    to: str | None = None
    selector: bytes | None = None
    calldata: bytes | None = None
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True, slots=True)
class Backrun:
    """Transactions to land right after the shared one called ``shared``."""

    shared: str
    txs: tuple[PooledTx, ...]

    def after(self, found: Shared) -> LocalBundle:
        """Return the bundle of both, with the refund that is due."""
        refund = Refund(found.refund_percent, found.refund_to, frozenset(t.hash for t in self.txs))
        return LocalBundle((found.tx, *self.txs), found.first_block, found.last_block, refund=refund)


class Backrunner(Protocol):
    """Someone who reads the matchmaker's hints before every block."""

    def backruns(self, hints: Sequence[Hint], base_fee_wei: int, block: int) -> Sequence[Backrun]:
        """Return back-runs for block number ``block``."""
        ...


def bundle_hash(txs: Sequence[PooledTx]) -> str:
    """Return the keccak of the transactions' hashes."""
    return "0x" + keccak(b"".join(bytes.fromhex(t.hash[2:]) for t in txs)).hex()

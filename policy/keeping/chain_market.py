"""Reading a chain for all vaults of a keeper: one batch a block, and a vault in full where the block touched it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lake.answers import fields, log_of, rows
from lake.errors import RpcError
from lake.evm import Call, at_block, read
from lake.rpc import Rpc
from lake.units import WEI_PER_GWEI
from policy.execution.base import Snapshot, Vault
from policy.execution.routing.amm import Pool
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.submission.gas import FeeRules, usual_tip
from policy.execution.submission.node import Node
from policy.keeping.desk import Changes, SeenBlock, VaultReading
from policy.keeping.readings import reading_of

ROUND, ANSWER = "latestRoundData()", "uint80,int256"
WORD = 32
TIP_BLOCKS = 10  # how often the usual tip is asked for
Widened = Callable[[Snapshot, VaultReading, SeenBlock], VaultReading]


@dataclass(slots=True)
class Kept:
    """One vault as it is read: its adapter, what is configured, what is known off the chain, and its pools of late.

    ``settlement_gwei``: what a roll-up's data are paid at; None on a chain that settles itself. ``widened``: makes of
    the vault's reading that of the portfolio it is part of.
    """

    vault: Vault
    address: str
    portfolio: RiskTerms
    view: Callable[[Snapshot], OffchainView]
    pools: Callable[[Snapshot], Sequence[Pool]]
    heartbeats: Mapping[str, float] = field(default_factory=dict)
    settlement_gwei: Callable[[], float | None] = lambda: None
    widened: Widened | None = None
    known_pools: tuple[Pool, ...] = ()
    pools_at: int = -1


class ChainMarket:
    """Vaults ``kept`` of one chain behind ``rpc``; their pools are read anew every ``pools_every`` blocks."""

    def __init__(self, rpc: Rpc, node: Node, kept: Sequence[Kept], rules: FeeRules, pools_every: int = 300) -> None:
        self._rpc, self._node, self._kept, self._rules, self._every = rpc, node, tuple(kept), rules, pools_every
        self._rows: dict[str, list[int]] = {}
        for row, one in enumerate(self._kept):
            self._rows.setdefault(one.address.lower(), []).append(row)
        self._decimals: dict[str, int] = {}
        self._tip, self._tip_at = rules.min_tip_wei, -TIP_BLOCKS

    def changes(self, head: SeenBlock) -> Changes:
        """Return prices of every feed and the vaults with a log in ``head``, by one batch at its hash."""
        feeds = list(self._decimals)
        where = at_block(head.hash)
        calls: list[tuple[str, Sequence[object]]] = [
            ("eth_getLogs", [{"blockHash": head.hash, "address": list(self._rows)}])
        ]
        calls += [("eth_call", [{"to": f, "data": Call(f, ROUND, ANSWER).data}, where]) for f in feeds]
        found = self._rpc.batch(calls)
        touched = {row for log in _addresses(found[0]) for row in self._rows.get(log, ())}
        prices = {f: _answer(f, raw) / 10 ** self._decimals[f] for f, raw in zip(feeds, found[1:], strict=True)}
        if head.number - self._tip_at >= TIP_BLOCKS:
            self._tip, self._tip_at = usual_tip(self._node.fee_history(20), self._rules), head.number
        known = [gwei for k in self._kept if (gwei := k.settlement_gwei()) is not None]
        settlement = round(max(known) * WEI_PER_GWEI) if known else None
        return Changes({f: p for f, p in prices.items() if p > 0}, frozenset(touched), self._tip, settlement)

    def read(self, row: int, head: SeenBlock) -> VaultReading:
        """Return vault ``row`` at the hash of ``head``."""
        one = self._kept[row]
        snapshot = one.vault.snapshot(head.hash)
        if one.pools_at < 0 or head.number - one.pools_at >= self._every:
            one.known_pools, one.pools_at = tuple(one.pools(snapshot)), head.number
        price = head.next_base_fee_wei + self._tip
        found = reading_of(snapshot, one.portfolio, one.view(snapshot), one.known_pools, price, one.heartbeats)
        fresh = [t.feed.lower() for t in snapshot.tokens if t.feed and t.feed.lower() not in self._decimals]
        digits = read(self._rpc, [Call(f, "decimals()", "uint8") for f in fresh], head.hash)
        self._decimals |= {f: int(str(d[0])) for f, d in zip(fresh, digits, strict=True)}
        return found if one.widened is None else one.widened(snapshot, found, head)


def _addresses(raw: object) -> list[str]:
    """Return the address of each log, lower case; RpcError where one is no log."""
    what = "eth_getLogs"
    return [fields(log_of(log, what), what).address("address") for log in rows(raw, what)]


def _answer(feed: str, raw: object) -> int:
    """Return a feed's answer, 0 where it is none: the price before it then stands until the vault is read."""
    told = fields({"answer": raw}, f"{ROUND} of {feed}").data("answer")
    if len(told) < 2 * WORD:
        raise RpcError(f"{ROUND} of {feed} answered {str(raw)[:40]!r}")
    value = int.from_bytes(told[WORD : 2 * WORD], "big")
    return value if value < 2**255 else 0

"""What a vault held, and what that was worth, at every block of a period: from transfers and rounds of its feeds.

No state of the past is read: holdings of now less what was moved since, and rounds that every feed keeps. So any node
gives the same answer, an archive or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import polars as pl

from lake.answers import quantity
from lake.evm import Call, head_of, read
from lake.rpc import Rpc
from lake.sources.oracles import rounds_between
from lake.units import BPS
from pipelines.settlements.mandate.onchain import Senders
from pipelines.settlements.mandate.period import Period
from pipelines.settlements.mandate.tolerance import CHANGES, Epoch
from policy.execution.checks.oracle_rules import WORTHLESS, PriceSource
from policy.execution.vaults.reference.history import VaultLog, folded
from policy.execution.vaults.reference.logs import TRANSFER
from policy.execution.vaults.reference.state import SOURCES, source_of
from policy.execution.vaults.scan import address_topic, place, scan_logs

BEFORE = timedelta(days=2)
"""How long before a stretch the last round of a feed may lie: longer than any heartbeat with its slack."""


@dataclass(frozen=True, slots=True)
class Composition:
    """What a portfolio is made of from block ``first`` on: price sources in order, targets in basis points."""

    first: int
    sources: tuple[PriceSource, ...]
    targets_bps: tuple[int, ...]


def compositions(rpc: Rpc, logs: Sequence[VaultLog], period: Period) -> list[Composition]:
    """Return what the reference vault was made of over the period, by its own events."""
    found: list[Composition] = []
    known: dict[str, tuple[PriceSource, ...]] = {}
    for log, now in folded(logs):
        if log.block > period.last.number or not (now.oracle and now.targets_bps):
            continue
        if now.oracle not in known:
            rows = read(rpc, [Call(now.oracle, "sources()", SOURCES)])[0][0]
            known[now.oracle] = tuple(source_of(row) for row in cast("Sequence[tuple[object, ...]]", rows))
        made = Composition(max(log.block, period.first.number), known[now.oracle], now.targets_bps)
        if len(made.sources) != len(made.targets_bps):
            continue  # the last event of a change of tokens completes it
        found = [c for c in found if c.first < made.first]
        if not found or (found[-1].sources, found[-1].targets_bps) != (made.sources, made.targets_bps):
            found.append(made)
    return found


def epochs(
    rpc: Rpc, vault: str, made: Sequence[Composition], names: Mapping[str, str], caps: Sequence[float], period: Period,
    logs: Sequence[VaultLog] = (),
) -> list[Epoch]:  # fmt: skip
    """Return the stretches of the period with all changes in them; ``caps`` are those of the last one's tokens.

    ``names``: what to call each token; ``logs``: the vault's own events, which tell what it set aside for claims.
    """
    senders = Senders(rpc)
    tokens = sorted({s.token for c in made for s in c.sources})
    moves = _moves(rpc, vault, tokens, period, logs)
    senders.know([block for block, *_ in moves])
    start, end = int(period.start.timestamp()), int(period.end.timestamp())
    found = []
    for one, after in zip(made, [*made[1:], None], strict=True):
        begin = start if one is made[0] else int(senders.at(one.first).timestamp())
        until = end if after is None else int(senders.at(after.first).timestamp())
        if until <= begin:
            continue
        fit = one.sources == made[-1].sources and len(caps) == len(one.sources)
        found.append(Epoch(
            begin, until, tuple(names.get(s.token, s.token) for s in one.sources),
            tuple(t / BPS for t in one.targets_bps), tuple(caps) if fit else None,
            tuple(-(s.decimals + s.feed_decimals) for s in one.sources),
            _changes(rpc, one.sources, moves, senders, (begin, until)),
        ))  # fmt: skip
    return found


def _moves(
    rpc: Rpc, vault: str, tokens: Sequence[str], period: Period, logs: Sequence[VaultLog]
) -> list[tuple[int, str, int]]:
    """Return (block, token, held after it) of every change up to the period's end, and what was held before it."""
    head = head_of(rpc, fees=False)
    views = [Call(t, "balanceOf(address)", "uint256", (vault,)) for t in tokens]
    held = {t: cast("int", row[0]) for t, row in zip(tokens, read(rpc, views, head.hash), strict=True)}
    mine = address_topic(vault)
    changes: list[tuple[int, int, str, int]] = []
    for sign, topics in ((-1, [TRANSFER, mine]), (1, [TRANSFER, None, mine])):
        for log in scan_logs(rpc, tokens, topics, period.first.number, head.number):
            token = next(t for t in tokens if t.lower() == str(log["address"]).lower())
            changes.append((*place(log), token, sign * quantity(log["data"])))
    for own in logs:
        if own.name in {"ClaimMade", "ClaimPaid"} and own.args["token"] in held:
            sign = -1 if own.name == "ClaimMade" else 1
            held[own.args["token"]] += sign * own.args["amount"]
            if own.block >= period.first.number:
                changes.append((own.block, own.index, own.args["token"], sign * own.args["amount"]))
    found = []
    for block, _, token, change in sorted(changes, reverse=True):
        if block <= period.last.number:
            found.append((block, token, held[token]))
        held[token] -= change
    return [(period.first.number - 1, t, amount) for t, amount in sorted(held.items())] + found[::-1]


def _changes(
    rpc: Rpc, sources: Sequence[PriceSource], moves: Sequence[tuple[int, str, int]], senders: Senders,
    span: tuple[int, int],
) -> pl.DataFrame:  # fmt: skip
    """Return the changes of one stretch (see ``tolerance.Epoch``)."""
    rows: list[tuple[int, int, str, float | None]] = []
    places = {s.token: i for i, s in enumerate(sources)}
    for block, token, amount in moves:
        at = int(senders.at(block).timestamp())
        if token in places and at < span[1]:
            rows.append((at, places[token], "held", float(amount)))
    begin, until = (datetime.fromtimestamp(s, UTC) for s in span)
    for i, source in enumerate(sources):
        if source.second_kind == WORTHLESS:
            rows.append((span[0], i, "price", 0.0))
            continue
        told = rounds_between(rpc, source.feed, begin - BEFORE, until, "latest")
        rows += [(r.updated_at, i, "price", float(r.answer) if r.answer > 0 else None) for r in told]
    return pl.DataFrame(rows, schema=CHANGES, orient="row")

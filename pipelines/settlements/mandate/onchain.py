"""What the chain says of a reference vault over a period: versions of its mandate, actions, roles, losses, states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import polars as pl

from lake.answers import fields
from lake.rpc import Rpc
from lake.units import BPS
from pipelines.settlements.mandate.frames import frame
from pipelines.settlements.mandate.period import Period
from policy.execution.records.hashlog import canonical
from policy.execution.vaults.reference.history import (
    FLOWS,
    MANDATE_FIELDS,
    ROLES,
    TRADES,
    InForce,
    VaultLog,
    at_block,
    folded,
    holdings,
)
from policy.execution.vaults.scan import times_of


class Senders:
    """Who sent a transaction, and when its block was made; each is asked once."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._from: dict[str, str] = {}
        self._times: dict[int, int] = {}

    def by(self, tx_hash: str) -> str:
        """Return the account that signed a transaction."""
        if tx_hash not in self._from:
            what = "eth_getTransactionByHash"
            self._from[tx_hash] = fields(self._rpc.call(what, [tx_hash]), what).address("from")
        return self._from[tx_hash]

    def know(self, blocks: Sequence[int]) -> None:
        """Ask for the times of ``blocks`` at once."""
        self._times |= times_of(self._rpc, [b for b in blocks if b not in self._times])

    def at(self, block: int) -> datetime:
        """Return when a block was made."""
        self.know([block])
        return datetime.fromtimestamp(self._times[block], UTC)


def versions(logs: Sequence[VaultLog], period: Period, senders: Senders) -> pl.DataFrame:
    """Return the versions of the mandate in force in the period, with hash, transaction and who sent it.

    A version is what all events of one transaction leave in force; its hash is the sha256 of that as canonical JSON.
    """
    told: dict[str, tuple[VaultLog, InForce]] = {}
    for log, now in folded(logs):
        if log.block <= period.last.number:
            told[log.tx_hash] = log, now
    rows: list[dict[str, Any]] = []
    before: dict[str, Any] = {}
    for number, (log, now) in enumerate(told.values()):
        content = {k: v for k, v in asdict(now).items() if k in MANDATE_FIELDS}
        changed = [k for k in MANDATE_FIELDS if content[k] != before.get(k)]
        if not changed:
            continue
        before = content
        rows.append({
            "number": number, "hash": sha256(canonical(content).encode()).hexdigest(), "block": log.block,
            "changed": "created" if not rows else ", ".join(changed), "tx_hash": log.tx_hash,
            "announced_tx": _announced(logs, log.tx_hash), "content": canonical(content),
        })  # fmt: skip
    rows = [row | {"number": n} for n, row in enumerate(rows)]
    in_force = [r for r, after in zip(rows, [*rows[1:], None], strict=True) if _lasts(after, period)]
    for row, after in zip(in_force, [*in_force[1:], None], strict=True):
        row |= {
            "since": senders.at(row["block"]), "until": None if after is None else senders.at(after["block"]),
            "by": senders.by(row["tx_hash"]),
        }  # fmt: skip
    return frame("versions", in_force)


def _lasts(after: Mapping[str, Any] | None, period: Period) -> bool:
    return after is None or after["block"] > period.first.number


def _announced(logs: Sequence[VaultLog], tx_hash: str) -> str | None:
    """Return the transaction that announced the change another one made, None where it needed no announcement."""
    done = {log.args["id"] for log in logs if log.tx_hash == tx_hash and log.name == "Executed"}
    said = [log.tx_hash for log in logs if log.name == "Scheduled" and log.args["id"] in done]
    return said[-1] if said else None


def actions(logs: Sequence[VaultLog], period: Period, senders: Senders) -> pl.DataFrame:
    """Return everything that was done to the vault in the period by hand: no trades, no flows of investors."""
    own = [g for g in logs if period.covers(g.block) and g.name not in FLOWS | TRADES]
    senders.know([g.block for g in own])
    return frame("actions", (
        {
            "ts": senders.at(g.block), "block": g.block, "index": g.index, "event": g.name,
            "by": senders.by(g.tx_hash), "tx_hash": g.tx_hash, "what": canonical(_shown(g)),
        }
        for g in own
    ))  # fmt: skip


def _shown(log: VaultLog) -> dict[str, Any]:
    return dict(log.args) | ({"role": ROLES[log.args["role"]]} if log.name == "RoleChanged" else {})


def roles(logs: Sequence[VaultLog], period: Period) -> pl.DataFrame:
    """Return who may do what before the period's first block and after its last."""
    start, end = (at_block(logs, b) for b in (period.first.number - 1, period.last.number))
    rows = [_role(name, str(getattr(start, name) or "nobody"), str(getattr(end, name) or "nobody"))
            for name in (*ROLES, "proposed_owner")]  # fmt: skip
    rows.append(_role("paused by", start.paused_by or "not paused", end.paused_by or "not paused"))
    rows.append(_role("holders", *("listed ones" if s.permissioned else "anyone" for s in (start, end))))
    for name, word in (("calls", "keeper may call"), ("holders", "may hold shares")):
        before, after = (set(getattr(s, name)) for s in (start, end))
        for one in sorted(before | after):
            text = one if isinstance(one, str) else " ".join(one)
            rows.append(_role(word, *(text if one in side else "" for side in (before, after))))
    return frame("roles", rows)


def _role(name: str, start: str, end: str) -> dict[str, Any]:
    return {"role": name, "at_start": start, "at_end": end, "changed": start != end}


def losses(logs: Sequence[VaultLog], period: Period, senders: Senders) -> pl.DataFrame:
    """Return what each plan of the period lost, and how much of the budgets in force the stretch before it had used.

    ``window_ppb``: lost in the budget's window that ends with the plan, billionths of NAV; ``long_ppb`` alike.
    """
    plans = [g for g in logs if g.name == "Rebalanced" and g.block <= period.last.number]
    senders.know([g.block for g in plans])
    at = {g.tx_hash: senders.at(g.block).timestamp() for g in plans}
    rows = []
    for log in (g for g in plans if period.covers(g.block)):
        now = at_block(logs, log.block)
        window_s, budget, long_s, long_budget = now.mandate[4], now.mandate[5], now.budgets[1], now.budgets[2]
        until = at[log.tx_hash]
        upto = [(at[g.tx_hash], g.args["loss_ppb"]) for g in plans if (g.block, g.index) <= (log.block, log.index)]
        rows.append({
            "ts": senders.at(log.block), "block": log.block, "tx_hash": log.tx_hash,
            "loss_ppb": log.args["loss_ppb"], "window_ppb": sum(x for t, x in upto if t > until - window_s),
            "window_budget_ppb": budget, "long_ppb": sum(x for t, x in upto if t > until - long_s),
            "long_budget_ppb": long_budget,
        })  # fmt: skip
    return frame("losses", rows)


def holders(logs: Sequence[VaultLog], block: int) -> pl.DataFrame:
    """Return who holds shares after ``block``, and who else is listed, the largest first."""
    held, now = holdings(logs, block), at_block(logs, block)
    total = sum(held.values())
    accounts = sorted({*held, *now.holders}, key=lambda a: (-held.get(a, 0), a))
    return frame("holders", (
        {
            "account": a, "shares": str(held.get(a, 0)), "share_bp": held.get(a, 0) / total * BPS if total else 0.0,
            "listed": a in now.holders,
        }
        for a in accounts
    ))  # fmt: skip

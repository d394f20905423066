"""The whole evidence of a period: every table, and what does not add up among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipelines.settlements.mandate.frames import frame
from pipelines.settlements.mandate.period import Period
from policy.execution.records.journal import EXECUTED
from policy.execution.vaults.trades import Disagreement, Trade

OPEN = "open"
"""Kind of a finding that is no fault: a plan whose end is not recorded within the period."""
WORDS = {
    "no_record": "traded without a record", "no_event": "recorded without a trade", "otherwise": "recorded otherwise",
    "twice": "traded twice", "lost": "a record is lost", "digest": "inputs do not give their digest",
    "plan_hash": "a plan does not give its hash", "replay": "taken again it comes out different",
    "forecast": "a forecast is not in the lake", "lake": "the lake differs from the record",
    "anchor": "an anchored head is not that of the record", "state": "not told by the node",
    "not_measured": "not measured", OPEN: "open at the end of the period",
}  # fmt: skip
"""What each kind of finding means."""
FAULTS = frozenset(WORDS) - {OPEN, "not_measured", "lost"}
"""Kinds that mean that record and chain, or record and lake, do not agree."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A report before it is written: ``head`` says what it is of, ``tables`` are those of ``frames.COLUMNS``."""

    head: dict[str, Any]
    tables: dict[str, pl.DataFrame]
    notes: tuple[str, ...] = field(default=())

    @property
    def faults(self) -> int:
        """Return how many findings are faults."""
        return self.tables["findings"].filter(pl.col("kind").is_in(sorted(FAULTS))).height


def of_disagreements(found: Sequence[Disagreement]) -> list[dict[str, Any]]:
    """Return the findings of what the audit and the vault's events say differently."""
    return [
        {
            "kind": OPEN if d.kind == "unsettled" else d.kind, "subject": d.plan_hash, "words": d.words,
            "block": d.block, "tx_hash": d.tx_hash or None,
        }
        for d in found
    ]  # fmt: skip


def of_decisions(decisions: pl.DataFrame, forecasts: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the findings of decisions that do not come out again as they are recorded."""
    rows = []
    for d in decisions.iter_rows(named=True):
        told = f"record {d['seq']}, decision {d['decision_id']}"
        if not d["digest_again"]:
            rows.append(_row("digest", d["decision_id"], f"{told}: its inputs do not give {d['inputs_digest']}"))
        if d["plan_hash_again"] is False:
            rows.append(_row("plan_hash", d["plan_hash"], f"{told}: its legs do not give plan hash {d['plan_hash']}"))
        if d["replay"].startswith("differs"):
            rows.append(_row("replay", d["decision_id"], f"{told}: taken again it {d['replay']}"))
    missing = forecasts.filter(~pl.col("in_lake")).group_by("seq", "decision_id", maintain_order=True).len()
    rows += [_row("forecast", name, f"record {seq}, decision {name}: {n} forecasts are not in the lake as it had them")
             for seq, name, n in missing.iter_rows()]  # fmt: skip
    return rows


def _row(kind: str, subject: str, words: str) -> dict[str, Any]:
    return {"kind": kind, "subject": subject, "words": words}


def simple(kind: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """Return findings of one kind."""
    return [_row(kind, "", w) for w in words]


def findings(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return all findings, faults first, in a fixed order."""
    order = {kind: i for i, kind in enumerate(WORDS)}
    return frame("findings", sorted(rows, key=lambda r: (order[r["kind"]], r.get("block") or 0, r["words"])))


def placed(settlements: pl.DataFrame, trades: Sequence[Trade]) -> pl.DataFrame:
    """Return ``settlements`` with block and transaction of each plan's own event, where there is one."""
    at = {t.plan_hash: (t.block, t.tx_hash) for t in trades if t.traded}
    rows = []
    for row in settlements.iter_rows(named=True):
        block, tx = at.get(row["plan_hash"], (None, row["tx_hash"]))
        rows.append(row | {"block": block, "tx_hash": tx})
    return frame("settlements", rows)


def counted(evidence: Evidence, period: Period) -> dict[str, Any]:
    """Return the figures of a report, for its first lines and for ``--json``."""
    t = evidence.tables
    anything = t["tolerance"].filter(pl.col("asset") == "any")
    lost, decided, settled = t["losses"], t["decisions"], t["settlements"]
    return {
        "blocks": period.last.number - period.first.number + 1, "decisions": decided.height,
        "live": int(decided["live"].sum()), "refusals": t["refusals"].height,
        "settlements": settled.height, "traded": int(settled["outcome"].is_in(sorted(EXECUTED)).sum()),
        "replayed_same": int((decided["replay"] == "same").sum()),
        "replayed_different": int(decided["replay"].str.starts_with("differs").sum()),
        "versions": t["versions"].height, "actions": t["actions"].height,
        "minutes_outside": None if anything.is_empty() else anything["outside_s"][0] / 60,
        "minutes_unknown": None if anything.is_empty() else anything["unknown_s"][0] / 60,
        "loss_ppb": int(lost["loss_ppb"].sum()),
        "largest_window_use": None if lost.is_empty() else max(
            w / b if b else 0.0 for w, b in zip(lost["window_ppb"], lost["window_budget_ppb"], strict=True)),
        "findings": t["findings"].height, "faults": evidence.faults,
    }  # fmt: skip

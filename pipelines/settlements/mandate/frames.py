"""The tables of a mandate report: their columns, in order. Amounts are integers as text, times are UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

_T, _I, _F, _B = pl.String, pl.Int64, pl.Float64, pl.Boolean
_W = pl.Datetime("us", "UTC")

COLUMNS: dict[str, dict[str, Any]] = {
    "findings": {"kind": _T, "subject": _T, "words": _T, "block": _I, "tx_hash": _T},
    "versions": {
        "number": _I, "hash": _T, "block": _I, "since": _W, "until": _W, "changed": _T, "by": _T, "tx_hash": _T,
        "announced_tx": _T, "content": _T,
    },
    "terms": {"hash": _T, "first": _W, "last": _W, "decisions": _I, "policy": _T, "content": _T},
    "actions": {"ts": _W, "block": _I, "index": _I, "event": _T, "by": _T, "tx_hash": _T, "what": _T},
    "roles": {"role": _T, "at_start": _T, "at_end": _T, "changed": _B},
    "decisions": {
        "seq": _I, "record": _T, "decision_id": _T, "ts": _W, "policy": _T, "action": _T, "live": _B, "outcome": _T,
        "why": _T, "inputs_digest": _T, "digest_again": _B, "block": _I, "forecasts": _I, "refused": _T,
        "plan_hash": _T, "plan_nonce": _I, "plan_hash_again": _B, "replay": _T, "nav": _T, "weights_before": _T,
        "weights_wanted": _T,
    },
    "forecasts": {
        "seq": _I, "decision_id": _T, "target": _T, "key": _T, "horizon_s": _I, "issued_at": _W, "mean": _F,
        "model_version": _T, "abstain": _B, "reason": _T, "in_lake": _B,
    },
    "verdicts": {"seq": _I, "decision_id": _T, "check": _T, "ok": _B, "reason": _T},
    "refusals": {"seq": _I, "decision_id": _T, "ts": _W, "checks": _T, "why": _T},
    "settlements": {
        "seq": _I, "decision_id": _T, "ts": _W, "plan_hash": _T, "outcome": _T, "block": _I, "tx_hash": _T,
        "gas_used": _I, "gas_cost_wei": _T, "nav_before": _T, "nav_after": _T, "loss_ppb": _I, "note": _T,
    },
    "fills": {
        "plan_hash": _T, "token": _T, "planned": _T, "at_least": _T, "actual": _T, "off_bp": _F,
    },
    "losses": {
        "ts": _W, "block": _I, "tx_hash": _T, "loss_ppb": _I, "window_ppb": _I, "window_budget_ppb": _I,
        "long_ppb": _I, "long_budget_ppb": _I,
    },
    "tolerance": {
        "asset": _T, "seconds": _I, "outside_s": _I, "unknown_s": _I, "episodes": _I, "worst_bp": _F, "worst_at": _W,
    },
    "outside": {"since": _W, "until": _W, "seconds": _I, "assets": _T, "worst_bp": _F},
    "anchors": {
        "seq": _I, "record": _T, "ts": _W, "anchored_seq": _I, "head": _T, "plan_hash": _T, "block": _I,
        "tx_hash": _T, "state": _T,
    },
    "holders": {"account": _T, "shares": _T, "share_bp": _F, "listed": _B},
}  # fmt: skip
"""Every table of a report, with its columns."""


def frame(name: str, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return ``rows`` as table ``name``, in the order given; a column that a row lacks is null."""
    schema = COLUMNS[name]
    return pl.DataFrame([{c: row.get(c) for c in schema} for row in rows], schema=schema)

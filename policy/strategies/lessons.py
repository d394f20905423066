"""Lessons kept in the lake: what the predictive policy learnt about a kind of portfolio, learnt once for all who ask.

A lesson is the members' weights in one window, and rests on the market up to that window's first step. Its key is the
kind, a digest of that market and of the forecasts' filter, and a digest of the code that learns: another past, or other
code, is another lesson. So a comparison and a live decision that stand on the same past share what either has learnt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl

from lake.store import Lake
from policy.base import Matrix
from policy.strategies.experts import Kind
from policy.strategies.predictive import Predictive

CODE = (
    "policy.simulation.simulator",
    "policy.solvers.bands",
    "policy.costs",
    "policy.solvers.dynamic_program",
    "policy.strategies.experts",
    "policy.solvers.step_kernel",
    "policy.solvers.partial",
    "policy.strategies.predictive",
    "policy.strategies.programme",
    "policy.solvers.trade_set",
    "policy.strategies.reactive",
    "policy.strategies.gas_process",
    "policy.simulation.planner",
    "policy.strategies.gas_outlook",
    "policy.strategies.gas_tilt",
    "policy.strategies.proven",
    "policy.simulation.history",
    "policy.simulation.panel",
    "policy.simulation.quotes",
)
"""Modules a lesson depends on: all that learning imports, but for records, storage and what is decided with it."""


@cache
def code_digest() -> str:
    """Return the digest of the code that learns."""
    found = sha256()
    for name in CODE:
        found.update(Path(str(import_module(name).__file__)).read_bytes())
    return found.hexdigest()


def kind_digest(kind: Kind) -> str:
    """Return the digest of a kind of portfolio."""
    return sha256(json.dumps(asdict(kind), sort_keys=True).encode()).hexdigest()


def market_digests(policy: Predictive) -> list[str]:
    """Return, for each window, the digest of everything known at its first step that a lesson rests on."""
    h, slow, dear = policy.history, policy.outlook.slow, policy.outlook.tilt.dear
    found = sha256(json.dumps([list(h.assets), h.gas_known]).encode())
    if h.listed is not None:
        found.update(np.ascontiguousarray(h.listed <= h.gas_known).tobytes())
    out, done = [], 0
    for window in policy.outlook.windows:
        stop = window.first + 1
        for array in (h.ts, h.close, h.gas_gwei, h.native_usd, h.depth_usd, h.recent_gwei, h.markets, slow, dear):
            found.update(np.ascontiguousarray(array[done:stop]).tobytes())
        if h.moved is not None:  # of the hour after a step: the last one's is not over
            found.update(np.ascontiguousarray(h.moved[max(done - 1, 0) : stop - 1]).tobytes())
        found.update(np.ascontiguousarray(h.covariance[h.day[done] : h.day[stop - 1] + 1]).tobytes())
        found.update(window.first.to_bytes(8, "big"))
        out.append(found.hexdigest())
        done = stop
    return out


def recall_lessons(lake: Lake, policy: Predictive, kinds: Iterable[Kind]) -> dict[Kind, Matrix]:
    """Return the (windows, members) lessons of ``kinds`` that are in the lake for every window."""
    if not policy.learns:
        return {}
    markets, names = market_digests(policy), {kind_digest(k): k for k in kinds}
    rows = (
        lake.scan("lessons")
        .filter((pl.col("code") == code_digest()) & pl.col("kind").is_in(list(names)) & pl.col("market").is_in(markets))
        .select("kind", "market", "weights")
        .collect()
    )
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows.iter_rows(named=True):
        found.setdefault(row["kind"], {})[row["market"]] = json.loads(row["weights"])
    return {
        names[kind]: np.array([by_market[m] for m in markets], dtype=np.float64)
        for kind, by_market in found.items()
        if all(m in by_market for m in markets)
    }


def keep_lessons(lake: Lake, policy: Predictive, lessons: Mapping[Kind, Matrix]) -> None:
    """Write ``lessons`` into the lake; one that is there already stays as it is."""
    if not lessons:
        return
    markets = market_digests(policy)
    at = [policy.history.when(w.first) for w in policy.outlook.windows]
    rows = [
        {
            "kind": kind_digest(kind), "market": market, "code": code_digest(), "ts": moment,
            "about": json.dumps(asdict(kind), sort_keys=True), "weights": json.dumps([float(v) for v in weights]),
            "available_at": moment,
        }
        for kind, by_window in lessons.items()
        for market, moment, weights in zip(markets, at, by_window, strict=True)
    ]  # fmt: skip
    times = {column: pl.Datetime("us", "UTC") for column in ("ts", "available_at")}
    lake.write("lessons", pl.DataFrame(rows, schema_overrides=times))

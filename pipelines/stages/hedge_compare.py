"""Compare hedge rules on the lake's prices and gas, for the book template of BOOK.toml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from pipelines.progress import Progress, silent
from pipelines.reports.nulls import nan_to_none
from pipelines.stages.book_file import Template, read_template
from pipelines.stages.train import window
from pipelines.wiring import HasLake, lake_of
from policy.base import Vector
from policy.comparison import hedges as panel
from policy.comparison.hedges import HedgeMarket, HedgeTerms
from policy.hedging import case as cases

WARMUP = timedelta(days=60)
GAMMAS = (3.0, 30.0)
STAGGER_H = 48.0  # between starts of the template
CELLS = (
    HedgeTerms(1e5, "L1", 0.0010), HedgeTerms(1e6, "L1", 0.0010), HedgeTerms(1e7, "L1", 0.0005),
    HedgeTerms(1e5, "L2", 0.0005), HedgeTerms(1e6, "L2", 0.0005),
)  # fmt: skip
LEAST_D = 14


def compare_hedges(
    project: HasLake, book: Path, start: str | None, end: str | None, progress: Progress = silent
) -> dict[str, Any]:
    """Return cells, hard limits and cadences for the template in ``book`` over ``start .. end``, undefined as None."""
    template, lake = read_template(book), lake_of(project)
    span = window(lake, start, end)
    hourly = market(lake, template, span, 3600)
    if hourly is None:
        raise NotEnoughData(
            f"no hourly bars of {template.asset} in the lake between {span[0]} and {span[1]}; import them"
        )
    terms = CELLS if template.nav_usd is None else tuple(
        HedgeTerms(template.nav_usd, c, f) for c, f in (("L1", 0.0010), ("L2", 0.0005))
    )  # fmt: skip
    paths = templates(hourly, template, STAGGER_H)
    cells: list[panel.HedgeCell] = []
    for i, t in enumerate(terms):
        cells += [panel.compare(hourly, paths, t, gamma) for gamma in gammas(template, hourly, paths, t)]
        progress("cells", i + 1, len(terms))
    hard = [panel.compare_hard(hourly, paths, t, limit) for t in terms for limit in panel.LIMITS]
    notes: list[str] = []
    try:
        fine = market(lake, template, span, 300)
    except NotEnoughData as few:
        fine = None
        notes.append(f"cadence not measured on 5-minute bars: {few}")
    else:
        notes += [f"no 5-minute bars of {template.asset}: cadence not measured"] if fine is None else []
    cadence = [] if fine is None else _cadence(fine, template, terms, cells, progress)
    found: dict[str, Any] = nan_to_none({
        "template": asdict(template), "from": span[0].isoformat(), "to": span[1].isoformat(),
        "starts": len(paths), "vega_per_point": float(np.mean([p.vega for p in paths])),
        "cells": [asdict(c) for c in cells], "means": means(cells), "hard": [asdict(h) for h in hard],
        "cadence": [asdict(c) for c in cadence],
        "notes": notes,
    })  # fmt: skip
    return found


def gammas(template: Template, hourly: HedgeMarket, paths: list[cases.Path], terms: HedgeTerms) -> tuple[float, ...]:
    """Return the gammas to compare at: as given, solved for the wanted tracking error, else 3 and 30."""
    if template.gamma is not None:
        return (template.gamma,)
    if template.te_target is not None:
        return (panel.gamma_for(hourly, paths, terms, template.te_target),)
    return GAMMAS


def market(lake: Lake, template: Template, span: tuple[datetime, datetime], step_s: int) -> HedgeMarket | None:
    """Return prices and gas of a hedge at the ends of bars of ``step_s``; None where the lake has no such bars.

    A bar is known at its end, gas when it is available; a missing bar keeps the last close. Raises NotEnoughData where
    prices or gas do not reach ``LEAST_D`` days beyond the warm-up.
    """
    begin = span[0] - WARMUP
    every = timedelta(seconds=step_s)
    bars = {a: _closes(lake, a, begin, span[1], step_s) for a in dict.fromkeys((template.asset, "ETH"))}
    if any(b.is_empty() for b in bars.values()):
        return None
    first: datetime = max([b["ts"][0] for b in bars.values()] + [begin])
    grid = pl.DataFrame({"ts": pl.datetime_range(first, span[1], every, time_unit="us", time_zone="UTC", eager=True)})
    for asset, closes in bars.items():
        grid = grid.join_asof(closes.rename({"close": asset}), on="ts")
    gas = lake.scan("gas").filter(pl.col("chain_id") == 1).select(
        pl.col("available_at").alias("ts"), gwei=pl.col("base_fee_gwei") + pl.col("priority_fee_gwei").fill_null(0.0)
    ).sort("ts").collect()  # fmt: skip
    grid = grid.join_asof(gas, on="ts")
    known = grid.with_row_index().filter((pl.col("ts") >= span[0]) & pl.col("gwei").is_not_null())
    if known.is_empty() or len(known) * step_s < LEAST_D * 86_400:
        raise NotEnoughData(
            f"prices and gas together reach under {LEAST_D} days of {span[0]} .. {span[1]}; import more"
        )
    step_h = step_s / 3600.0
    price = grid[template.asset].to_numpy()
    judged = max(int(known["index"][0]), round(30 * 24 / step_h))
    if (price.size - judged) * step_s < LEAST_D * 86_400:
        raise NotEnoughData(
            f"bars of {step_s} s begin {first}; a month of them warms up volatility and {LEAST_D} days are compared: "
            f"import more, or end after {first + timedelta(days=30 + LEAST_D)}"
        )
    usd = template.gas_units * 1e-9 * grid["gwei"].fill_null(strategy="backward").to_numpy() * grid["ETH"].to_numpy()
    return HedgeMarket(template.asset, price, cases.proxy_vol(price, step_h), usd, judged, step_h)


def _closes(lake: Lake, asset: str, begin: datetime, end: datetime, step_s: int) -> pl.DataFrame:
    rows = lake.scan("prices").filter(
        (pl.col("asset") == asset) & (pl.col("step") == step_s) & (pl.col("available_at") >= begin)
        & (pl.col("available_at") <= end)
    )  # fmt: skip
    plain = rows.select(pl.col("available_at").alias("ts"), "source", "close").collect()
    return plain.sort("ts", "source").unique("ts", keep="first", maintain_order=True).select("ts", "close")


def templates(found: HedgeMarket, template: Template, stagger_h: float) -> list[cases.Path]:
    """Return the template's paths, one a start, ``stagger_h`` apart over its life."""
    straddle = template.kind == "straddle"
    life_h = 24.0 * (template.life_d - (template.roll_d if straddle else 0.0))
    offsets = np.arange(0.0, life_h, stagger_h)
    p, v, h = found.price, found.vol, found.step_h
    if straddle:
        return [cases.straddle(p, v, h, float(o), template.life_d, template.roll_d) for o in offsets]
    return [cases.pool(p, v, h, float(o), template.life_d, template.width) for o in offsets]


def _cadence(
    fine: HedgeMarket, template: Template, terms: Iterable[HedgeTerms], cells: list[panel.HedgeCell], progress: Progress
) -> list[panel.Cadence]:
    paths = templates(fine, template, 120.0)
    wanted = [(t, c.gamma) for t in terms for c in cells if c.terms == t]
    out = []
    for i, (t, gamma) in enumerate(wanted):
        out.append(panel.compare_cadence(fine, paths, t, gamma))
        progress("cadence", i + 1, len(wanted))
    return out


def means(cells: list[panel.HedgeCell]) -> list[dict[str, Any]]:
    """Return mean, least and greatest ratio of ``hedge_gas_band`` to every rule, by chain and net asset value."""
    out = []
    for t in dict.fromkeys(c.terms for c in cells):
        mine = [c for c in cells if c.terms == t]
        for rule in (p.against for p in mine[0].pairs):
            pairs = [c.pair(rule) for c in mine]
            for figure, values in (
                ("objective", [p.objective.value for p in pairs]),
                ("equal_error", [np.nan if p.equal_error is None else p.equal_error for p in pairs]),
            ):
                known: Vector = np.array(values, dtype=np.float64)
                if np.isfinite(known).any():
                    mean, least, most = panel.spread(known)
                    out.append({
                        "nav_usd": t.nav_usd, "chain": t.chain, "against": rule, "figure": figure, "mean": mean,
                        "least": least, "most": most, "cells": int(np.isfinite(known).sum()),
                    })  # fmt: skip
    return out

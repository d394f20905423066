"""How long a vault was outside its tolerances: between two sights of it its weights move with recorded prices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from lake.store import Lake
from lake.universe import STABLE
from pipelines.reports.words import lasting
from pipelines.settlements.live_hours import VaultLook
from pipelines.settlements.mandate.tolerance import ANY, CHANGES, Epoch, judged
from pipelines.vault_settings import VaultSettings

MONTH = timedelta(days=30)
CARRY = timedelta(hours=6)
"""A price stands so long without a newer one; then the weights are not known."""


def outside(deployment: VaultSettings, lake: Lake, seen: Sequence[VaultLook], at: datetime) -> dict[str, Any]:
    """Return the minutes in which any weight was outside its tolerance: {today, days30, words}, each {outside_min,
    known_min, episodes}; None where nothing is known.

    From each sight on the vault holds what it held after it, valued at the bars of the lake (``prices``): minutes are
    as fine as those bars, and a breach within a bar that its close does not show is not counted.
    """  # fmt: skip
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    seen = [s for s in seen if s.at <= at]
    prices = _prices(lake, deployment.portfolio.assets, at - MONTH - CARRY, at) if seen else pl.DataFrame()
    found = {
        name: _counted(deployment, seen, prices, since, at)
        for name, since in (("today", midnight), ("days30", at - MONTH))
    }
    return {**found, "words": _words(found["today"], found["days30"])}


def _counted(
    deployment: VaultSettings, seen: Sequence[VaultLook], prices: pl.DataFrame, since: datetime, at: datetime
) -> dict[str, float] | None:
    start = max(since, seen[0].at) if seen else at
    if start >= at:
        return None
    given = deployment.portfolio
    first = max((i for i, s in enumerate(seen) if s.at <= start), default=0)
    held = _held(given.assets, seen[first:], prices)
    epoch = Epoch(
        int(start.timestamp()), int(at.timestamp()), tuple(given.assets),
        tuple(given.weights[a] for a in given.assets), tuple(given.caps[a] for a in given.assets),
        (0,) * len(given.assets), pl.concat([held, prices]).sort("time_s", maintain_order=True),
    )  # fmt: skip
    row = judged([epoch])[0].filter(pl.col("asset") == ANY).row(0, named=True)
    known = row["seconds"] - row["unknown_s"]
    if not known:
        return None
    return {"outside_min": row["outside_s"] / 60, "known_min": known / 60, "episodes": row["episodes"]}


def _held(assets: Sequence[str], looks: Sequence[VaultLook], prices: pl.DataFrame) -> pl.DataFrame:
    """Return what the vault held from each of ``looks`` on: worth over price, null where no price is known."""
    n = len(assets)
    rows = pl.DataFrame({
        "time_s": [int(s.at.timestamp()) for s in looks for _ in range(n)], "asset": list(range(n)) * len(looks),
        "usd": [float(w) * s.nav_usd for s in looks for w in s.after],
    }).sort("time_s", maintain_order=True)  # fmt: skip
    known = rows.join_asof(
        prices.sort("time_s", maintain_order=True).select("time_s", "asset", price="value"), on="time_s", by="asset",
        check_sortedness=False,
    )  # fmt: skip
    units = pl.when(pl.col("usd") == 0).then(0.0).otherwise(pl.col("usd") / pl.col("price"))
    return known.select("time_s", "asset", kind=pl.lit("held"), value=units)


def _prices(lake: Lake, assets: Sequence[str], start: datetime, at: datetime) -> pl.DataFrame:
    """Return every price of ``assets`` (by position) from when it was known, null from CARRY after the last one on."""
    wanted = pl.col("asset").is_in(list(assets)) & pl.col("available_at").is_between(start, at)
    rows = (
        lake.scan("prices").filter(wanted).select("asset", "available_at", "step", "source", "close")
        .sort("available_at", "step", "source", descending=[False, True, True])
        .unique(["asset", "available_at"], keep="last", maintain_order=True).collect()
    )  # fmt: skip
    parts = [pl.DataFrame(schema=CHANGES)]
    for i, asset in enumerate(assets):
        own = rows.filter(pl.col("asset") == asset)
        times = own["available_at"].dt.epoch("s").to_numpy()
        value = own["close"].to_numpy()
        if asset in STABLE and not len(times):
            times, value = np.array([int(start.timestamp())]), np.ones(1)
        else:
            late = np.append(np.diff(times) > CARRY.total_seconds(), True)[: len(times)]
            ends = times[late] + int(CARRY.total_seconds())
            times, value = np.append(times, ends), np.append(value, np.full(len(ends), np.nan))
        shown = {"time_s": times, "asset": [i] * len(times), "kind": ["price"] * len(times), "value": value}
        parts.append(pl.DataFrame(shown, schema=CHANGES))
    return pl.concat(parts)


def _words(today: dict[str, float] | None, month: dict[str, float] | None) -> str:
    if month is None:
        return "How long it was outside its tolerances is not known: nothing was seen of it yet."
    share = month["outside_min"] / month["known_min"]
    if not month["outside_min"]:
        return f"It was never outside its tolerances in the last 30 days, of which {_days(month)} are known."
    now = "not known" if today is None else lasting(today["outside_min"])
    return (
        f"Outside its tolerances today: {now}; in the last 30 days: {lasting(month['outside_min'])} "
        f"({share:.1%} of the {_days(month)} that are known)."
    )


def _days(month: dict[str, float]) -> str:
    return f"{month['known_min'] / 1_440:.3g} days"

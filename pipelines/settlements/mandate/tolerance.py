"""How long a vault was outside its tolerances, block by block: a state holds from the block that made it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from lake.units import BPS
from pipelines.settlements.mandate.frames import frame


@dataclass(frozen=True, slots=True)
class Epoch:
    """A stretch with the same tokens, targets and price sources: from ``start_s`` to ``end_s`` (not), unix seconds.

    ``changes``: columns time_s, asset (position), kind (held | price), value (raw units; raw price, null where it is
    not good); what stood before the stretch is in it with an earlier time. ``scales``: powers of ten of a raw unit
    times a raw price, by position. ``caps`` as fractions, None where none is configured for these tokens.
    """

    start_s: int
    end_s: int
    assets: tuple[str, ...]
    targets: tuple[float, ...]
    caps: tuple[float, ...] | None
    scales: tuple[int, ...]
    changes: pl.DataFrame


CHANGES = {"time_s": pl.Int64, "asset": pl.Int64, "kind": pl.String, "value": pl.Float64}


def states(epoch: Epoch) -> pl.DataFrame:
    """Return each state of the epoch: ``since_s``, ``until_s``, and per asset its deviation ``d<i>`` (a fraction).

    A deviation is null where a price is not known, or where nothing is held.
    """
    n = len(epoch.assets)
    named = epoch.changes.with_columns(column=pl.col("kind").str.head(1) + pl.col("asset").cast(pl.String))
    times = pl.concat([named.select("time_s"), pl.DataFrame({"time_s": [epoch.start_s]})]).unique().sort("time_s")
    wide = times
    for name in [f"{kind}{i}" for kind in "hp" for i in range(n)]:
        series = named.filter(pl.col("column") == name).select("time_s", told=pl.col("value").fill_null(float("nan")))
        newest = series.unique("time_s", keep="last", maintain_order=True).rename({"told": name})
        wide = wide.join(newest, on="time_s", how="left", maintain_order="left").with_columns(
            pl.col(name).forward_fill()
        )
    values = [(pl.col(f"h{i}") * pl.col(f"p{i}") * 10.0 ** epoch.scales[i]).alias(f"v{i}") for i in range(n)]
    total = pl.sum_horizontal([f"v{i}" for i in range(n)], ignore_nulls=False)
    wide = wide.with_columns(values).with_columns(total=total)
    known = pl.col("total").is_not_nan() & (pl.col("total") > 0)
    gaps = [pl.when(known).then(pl.col(f"v{i}") / pl.col("total") - epoch.targets[i]).alias(f"d{i}") for i in range(n)]
    end = pl.col("time_s").shift(-1).fill_null(epoch.end_s).clip(upper_bound=epoch.end_s)
    spans = wide.select(pl.col("time_s").clip(lower_bound=epoch.start_s).alias("since_s"), end.alias("until_s"), *gaps)
    return spans.filter(pl.col("until_s") > pl.col("since_s"))


def judged(epochs: Sequence[Epoch]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the tables ``tolerance`` (a row an asset, and one for any of them) and ``outside`` (a row an episode)."""
    parts = [_outside(epoch, states(epoch)) for epoch in epochs]
    marks = pl.concat(parts) if parts else pl.DataFrame(schema=_MARKS)
    rows = []
    for asset in [*dict.fromkeys(a for e in epochs for a in e.assets), ANY]:
        own = marks.filter(pl.col("asset") == asset)
        out = own.filter("out")
        worst = own.filter(pl.col("dev").is_not_null()).sort(pl.col("dev").abs(), maintain_order=True).tail(1)
        rows.append({
            "asset": asset, "seconds": own["s"].sum(), "outside_s": out["s"].sum(),
            "unknown_s": own.filter(pl.col("out").is_null())["s"].sum(), "episodes": _episodes(own).height,
            "worst_bp": None if worst.is_empty() else worst["dev"][0] * BPS,
            "worst_at": None if worst.is_empty() else _moment(worst["since_s"][0]),
        })  # fmt: skip
    return frame("tolerance", rows), _listed(marks)


ANY = "any"
"""Stands for an asset in the rows that say when any of them was outside."""
_MARKS = {"asset": pl.String, "since_s": pl.Int64, "until_s": pl.Int64, "s": pl.Int64, "dev": pl.Float64,
          "out": pl.Boolean}  # fmt: skip


def _outside(epoch: Epoch, spans: pl.DataFrame) -> pl.DataFrame:
    """Return every state of every asset, and of any of them, with whether it is outside (null: not known)."""
    time = [pl.col("since_s"), pl.col("until_s"), (pl.col("until_s") - pl.col("since_s")).alias("s")]
    found = []
    for i, asset in enumerate(epoch.assets):
        dev = pl.col(f"d{i}")
        out = pl.lit(None, pl.Boolean) if epoch.caps is None else dev.abs() > epoch.caps[i] + ROUNDING
        found.append(spans.select(pl.lit(asset).alias("asset"), *time, dev.alias("dev"), out.alias("out")))
    each = pl.concat(found)
    largest = pl.col("dev").sort_by(pl.col("dev").abs()).last()
    whole = each.group_by("since_s", "until_s", "s", maintain_order=True).agg(
        largest, pl.col("out").any(ignore_nulls=False)
    )
    return pl.concat([each, whole.select(pl.lit(ANY).alias("asset"), "since_s", "until_s", "s", "dev", "out")])


ROUNDING = 1e-9
"""Of a weight: a state exactly at its tolerance is inside."""


def _episodes(own: pl.DataFrame) -> pl.DataFrame:
    """Return the stretches without a break in which the rows of one asset are outside."""
    run = pl.col("out").fill_null(value=False).rle_id().alias("run")
    largest = pl.col("dev").sort_by(pl.col("dev").abs()).last()
    return (
        own.sort("since_s").with_columns(run).filter("out").group_by("run", maintain_order=True)
        .agg(pl.col("since_s").first(), pl.col("until_s").last(), pl.col("s").sum(), largest)
    )  # fmt: skip


def _listed(marks: pl.DataFrame) -> pl.DataFrame:
    """Return when any asset was outside, with the ones that were."""
    rows = []
    for since, until, seconds, dev in _episodes(marks.filter(pl.col("asset") == ANY)).drop("run").iter_rows():
        at = (pl.col("since_s") < until) & (pl.col("until_s") > since) & pl.col("out") & (pl.col("asset") != ANY)
        names = marks.filter(at)["asset"].unique().sort().to_list()
        rows.append({
            "since": _moment(since), "until": _moment(until), "seconds": seconds, "assets": ", ".join(names),
            "worst_bp": dev * BPS,
        })  # fmt: skip
    return frame("outside", rows)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

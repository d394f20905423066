"""How far apart the rows of each series are, and whether that is one spacing: what a row's step may be derived from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

DAILY_SHARE = 0.8  # a signal is a regular series when at least this share of its gaps equals the modal one
OFTEN = 3  # a larger gap seen this often, and oftener than all smaller ones together, is another bar length, not holes
FAR = 4  # from this multiple of the modal spacing on; nearer ones (2, 3) are missing bars unless they are common
COMMON_SHARE = 0.3
RUN = 12  # as many equal larger gaps in a row are another bar length: of one row in three lost at random 2e-8 of places


@dataclass(frozen=True, slots=True)
class Spacing:
    """Modal spacing (seconds) of each series and of all, regular series, and a sentence per series with several."""

    by_series: dict[str, int]
    overall: int | None
    regular: frozenset[str]
    mixed: tuple[str, ...]


def spacing(counts: Sequence[pl.DataFrame]) -> Spacing:
    """Return the spacings of series from how often each gap occurs.

    Frames of ``series``, ``gap`` (s), ``len`` (how often) and ``run`` (the most of it that follow each other).
    """
    total = pl.concat(counts).group_by("series", "gap").agg(pl.col("len").sum(), pl.col("run").max())
    gaps = total.sort("series", "len", "gap", descending=[False, True, False])
    share = pl.col("len").first() / pl.col("len").sum()
    modal = gaps.group_by("series", maintain_order=True).agg(pl.col("gap").first(), share.alias("share"))
    every = total.group_by("gap").agg(pl.col("len").sum()).sort("len", "gap", descending=[True, False])
    return Spacing(
        by_series=dict(modal.select("series", "gap").iter_rows()),
        overall=every["gap"][0] if every.height else None,
        regular=frozenset(modal.filter(pl.col("share") >= DAILY_SHARE)["series"]),
        mixed=_mixed(total, modal),
    )


def too_early(step: int | None, found: Spacing) -> list[str]:
    """Say where a step (seconds) given for all rows is shorter than they lie apart: bars would be known too early."""
    if step is None:
        return []
    wide = [f"{s} {gap} s" for s, gap in found.by_series.items() if gap > step]
    said = "; ".join([*wide, *found.mixed][:4])
    return [f"step={step} s as given, but rows lie otherwise ({said}): no bar is known before its end"] if said else []


def _mixed(total: pl.DataFrame, modal: pl.DataFrame) -> tuple[str, ...]:
    """Return a sentence for each series whose rows have more than one length.

    Rows closer than the modal spacing overlap, whatever it is. A larger gap is a hole where holes of its size are
    rarer than smaller ones, and a change of bar length where it comes again and again, or many times in a row.
    """
    other = (
        total.join(modal.select("series", step="gap"), on="series")
        .sort("series", "gap")
        .with_columns(n=pl.col("len").sum().over("series"), times=pl.col("gap") / pl.col("step"))
        .with_columns(wider=pl.when(pl.col("gap") > pl.col("step")).then("len").otherwise(0))
        .with_columns(before=pl.col("wider").cum_sum().over("series") - pl.col("wider"))
    )
    often = (pl.col("len") >= OFTEN) & (pl.col("len") > pl.col("before"))
    longer = (pl.col("times") >= FAR) | (pl.col("len") >= COMMON_SHARE * pl.col("n"))
    wide = pl.col("gap") > pl.col("step")
    odd = other.filter((pl.col("gap") < pl.col("step")) | (wide & ((often & longer) | (pl.col("run") >= RUN))))
    said = odd.group_by("series", maintain_order=True).agg(
        pl.col("step").first(), pl.format("{} s ({} times)", "gap", "len").alias("gaps")
    )
    return tuple(f"{series}: {step} s, but also {', '.join(gaps[:4])}" for series, step, gaps in said.iter_rows())

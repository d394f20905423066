"""Evidence on several stretches of history: what ``compare --windows`` and ``compare --ablate`` run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.errors import ConfigError, NotEnoughData
from lake.store import Lake
from lake.units import utc
from pipelines.deployments import Deployment
from pipelines.progress import Progress, silent
from pipelines.reports.nulls import nan_to_none
from pipelines.stages import needs
from pipelines.stages.compare import ensure_forecasts
from pipelines.stages.train import window
from pipelines.wiring import PanelChoice, compare_config, lake_of
from policy.comparison import stretches

RECORDED = "recorded"
HOLE = timedelta(days=7)  # without gas ends a stretch
LEARN = timedelta(days=24)  # of gas before the first decision of a stretch: what the gas process is learnt from
LEAST = timedelta(days=28)  # of decisions


def evidence(
    project: Deployment,
    windows: str | None,
    families: Sequence[str],
    span: tuple[str | None, str | None],
    progress: Progress = silent,
    asked: PanelChoice | None = None,
) -> dict[str, Any]:
    """Return the evidence of ``windows`` ("START..END,...", or "recorded": every stretch with gas), else of ``span``.

    ``families`` of forecasts are judged by what the policy costs with and without each. Folds whose forecasts are not
    in the lake yet are trained first. Raises ConfigError for windows that cannot be read, NotEnoughData for one without
    data.
    """
    unknown = [f for f in families if f not in stretches.FAMILIES]
    if unknown:
        raise ConfigError(f"--ablate {','.join(unknown)}: choose of {', '.join(stretches.FAMILIES)}")
    lake, choice = lake_of(project), asked or PanelChoice()
    spans = spans_of(lake, project.chain.history, windows) if windows else [window(lake, *span)]
    for own in spans:
        needs.of_comparison(lake, compare_config(project, own, choice))
        if choice.skill is None:
            ensure_forecasts(project, lake, own, progress)
    config = compare_config(project, spans[0], choice)
    found: dict[str, Any] = nan_to_none(
        stretches.run(lake, config, spans, families, lambda done, total: progress("panel", done, total))
    )
    return found


def spans_of(lake: Lake, chain_id: int, text: str) -> list[tuple[datetime, datetime]]:
    """Return the spans named by ``text``, in order of time."""
    if text.strip() == RECORDED:
        return recorded_spans(lake, chain_id)
    spans = []
    for part in text.split(","):
        begin, dots, end = part.strip().partition("..")
        if not (dots and begin and end):
            raise ConfigError(f"--windows {part.strip()!r}: give START..END, several with commas, or {RECORDED}")
        span = utc(begin), utc(end)
        if span[0] >= span[1]:
            raise ConfigError(f"--windows {part.strip()!r}: its start is not before its end")
        spans.append(span)
    return sorted(spans)


def recorded_spans(lake: Lake, chain_id: int) -> list[tuple[datetime, datetime]]:
    """Return every stretch of gas without a hole of a week, less the LEARN days each begins with."""
    times = (
        lake.scan("gas").filter(pl.col("chain_id") == chain_id).select("available_at").sort("available_at").collect()
    )["available_at"]
    if times.is_empty():
        raise NotEnoughData(f"no gas of chain {chain_id}: foredrift import gas FILE, or ingest it")
    holes = times.diff().fill_null(timedelta(0)) > HOLE
    begins = [times[0], *times.filter(holes)]
    ends = [*times.filter(holes.shift(-1, fill_value=False)), times[-1]]
    spans = [(b + LEARN, e) for b, e in zip(begins, ends, strict=True) if e - b >= LEARN + LEAST]
    if not spans:
        days = (LEARN + LEAST).days
        raise NotEnoughData(f"no stretch of gas of chain {chain_id} lasts {days} days: import more, or name --windows")
    return spans

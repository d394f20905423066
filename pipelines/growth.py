"""Beyond one machine and beyond memory: the panel on Dask, and hundreds of millions of bars by streaming."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.serve import scheduler

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

    from policy.compare import Engine, Outcome

BATCHES_PER_WORKER = 2  # enough to even out, few enough that the history travels seldom


def dask_engine(address: str | None, workers: int, home: Path) -> Engine:
    """Return an engine on the cluster at ``address``, or on a local one of ``workers`` single-threaded processes.

    Tasks report to the scheduler of PREFECT_API_URL, else to one started in ``home`` for as long as the panel runs
    (left to themselves, all workers would start servers of their own).
    """

    def engine(work: Callable[..., list[Outcome]], chunks: Sequence[tuple[object, ...]]) -> Iterable[list[Outcome]]:
        with scheduler(home) as url:
            from prefect.settings import PREFECT_API_URL, temporary_settings

            with temporary_settings({PREFECT_API_URL: url}):
                return on_cluster(work, chunks)

    def on_cluster(work: Callable[..., list[Outcome]], chunks: Sequence[tuple[object, ...]]) -> list[list[Outcome]]:
        from prefect import flow, task

        size = max(1, -(-len(chunks) // (workers * BATCHES_PER_WORKER)))
        batches = [chunks[i : i + size] for i in range(0, len(chunks), size)]

        @task(name="simulate")
        def simulate(batch: Sequence[tuple[object, ...]]) -> list[list[Outcome]]:
            return [work(*chunk) for chunk in batch]

        @flow(name="panel", task_runner=_runner(address, workers))
        def panel() -> list[list[Outcome]]:
            futures = [simulate.submit(batch) for batch in batches]
            return [outcomes for future in futures for outcomes in future.result()]

        return panel()

    return engine


def _runner(address: str | None, workers: int) -> TaskRunner[Any]:
    from prefect_dask import DaskTaskRunner

    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    runner: TaskRunner[Any] = DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=local)
    return runner


def hourly_measures(bars: pl.LazyFrame) -> pl.DataFrame:
    """Return (asset, ts, close, high, low, bars, parkinson, garman_klass), one row per asset and hour, by streaming.

    ``bars`` are rows of table prices of any step up to an hour, for example a lake's scan; nothing but the hourly
    result is held in memory. The two range estimators are variances per hour, summed over the bars of the hour:
    Parkinson (1980) ln(high/low)^2 / (4 ln 2); Garman and Klass (1980) ln(high/low)^2 / 2 - (2 ln 2 - 1)
    ln(close/open)^2. ``ts`` is the hour's open; the row is known an hour later.
    """
    reach = (pl.col("high") / pl.col("low")).log() ** 2
    move = (pl.col("close") / pl.col("open")).log() ** 2
    return (
        bars.select("asset", "ts", "open", "high", "low", "close")
        .with_columns(
            hour=pl.col("ts").dt.truncate("1h"), parkinson=reach / (4 * math.log(2)),
            garman_klass=reach / 2 - (2 * math.log(2) - 1) * move,
        )
        .group_by("asset", "hour")
        .agg(
            pl.col("close").sort_by("ts").last(), pl.col("high").max(), pl.col("low").min(), pl.len().alias("bars"),
            pl.col("parkinson").sum(), pl.col("garman_klass").sum(),
        )
        .rename({"hour": "ts"})
        .collect(engine="streaming")
        .sort("asset", "ts")
    )  # fmt: skip

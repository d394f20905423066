"""Beyond one machine: the panel on Dask."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.servers.prefect_server import scheduler

if TYPE_CHECKING:
    from policy.comparison.compare import Spread

BATCHES_PER_WORKER = 2  # enough to even out, few enough that the history travels seldom


@contextmanager
def dask_engine(address: str | None, workers: int, home: Path) -> Iterator[Spread]:
    """Yield what spreads work over the cluster at ``address``, or a local one of ``workers`` single-threaded processes.

    Tasks report to the scheduler of PREFECT_API_URL, else to one started in ``home`` for as long as the panel runs
    (left to themselves, all workers would start servers of their own).
    """
    with ExitStack() as stack:
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        url = stack.enter_context(scheduler(home))
        password = os.environ.get("PREFECT_API_AUTH_STRING")
        stack.enter_context(temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}))
        yield partial(_on_cluster, address or stack.enter_context(_cluster(workers)).scheduler_address, workers)


def _on_cluster(
    address: str, workers: int, work: Callable[..., list[Any]], chunks: Sequence[tuple[object, ...]]
) -> list[list[Any]]:
    from prefect import flow, task
    from prefect_dask import DaskTaskRunner

    if not chunks:
        return []
    size = max(1, -(-len(chunks) // (workers * BATCHES_PER_WORKER)))
    batches = [chunks[i : i + size] for i in range(0, len(chunks), size)]

    @task(name=getattr(work, "func", work).__name__)  # a partial is named after its function
    def run(batch: Sequence[tuple[object, ...]]) -> list[list[Any]]:
        return [work(*chunk) for chunk in batch]

    @flow(name="panel", task_runner=DaskTaskRunner(address=address))
    def panel() -> list[list[Any]]:
        futures = [run.submit(batch) for batch in batches]
        return [results for future in futures for results in future.result()]

    return panel()


def _cluster(workers: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")

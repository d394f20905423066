"""Beyond one machine: the panel's chunks through Prefect's Dask task runner, the same figures to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

    from policy.compare import Engine, Outcome

BATCHES_PER_WORKER = 2  # enough to even out, few enough that the history travels seldom


def dask_engine(address: str | None, workers: int) -> Engine:
    """Return an engine on the cluster at ``address``, or on a local one of ``workers`` single-threaded processes."""

    def engine(work: Callable[..., list[Outcome]], chunks: Sequence[tuple[object, ...]]) -> Iterable[list[Outcome]]:
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

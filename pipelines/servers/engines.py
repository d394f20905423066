"""What carries out a panel: threads of this process, or Dask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lake.errors import ConfigError

if TYPE_CHECKING:
    from policy.comparison.compare import Engine


def engine_of(name: str, workers: int, home: Path) -> Engine | None:
    """Return what maps the panel's chunks: None for threads, or Dask through the scheduler's task runner.

    ``workers`` of a local cluster; ``home``: the folder of a scheduler that is started for it.
    """
    if name == "threads":
        return None
    if name == "dask" or name.startswith("dask="):
        from pipelines.servers.dask_engine import dask_engine

        return dask_engine(name.partition("=")[2] or None, workers, home)
    raise ConfigError(f"engine {name!r}: choose threads, dask, or dask=tcp://HOST:PORT")

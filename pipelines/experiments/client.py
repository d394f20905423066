"""The MLflow side: store, experiments, and how a comparison is laid out so that people can read it.

Flat sibling runs, one per policy, scenario and NAV, share ``comparison_id``; nested runs would be collapsed into one
lonely bar. Metric names are short leaves under ``summary/`` (single values) and ``ts/`` (series whose step is the
decision index from the window's start, the same for every policy).
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from lake.locks import exclusive
from lake.paths import usable
from pipelines.sections import MlflowSection

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient


class Stores(Protocol):
    """What says where MLflow's stores are: the settings or a deployment."""

    @property
    def mlflow(self) -> MlflowSection:
        """Section ``[mlflow]``."""
        ...

    def path(self, relative: str) -> Path:
        """Return a project path, absolute."""
        ...


COMPARISON, FORECASTS, LIVE = "comparison", "forecasts", "live"
_BATCH = 1_000  # MLflow's limit of metrics in one call


def tracking_uri(stores: Stores) -> str:
    """Return the store's URI with a relative SQLite path made absolute; MLFLOW_TRACKING_URI overrides the stores."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or stores.mlflow.tracking_uri
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return uri
    file, mark, query = uri.removeprefix(prefix).partition("?")
    return prefix + usable(stores.path(file), "the MLflow store") + mark + query


def client(stores: Stores) -> MlflowClient:
    """Return a client on the project's store, creating the store first (two processes must not do that at once)."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from mlflow.tracking import MlflowClient

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = tracking_uri(stores)
    named = "MLFLOW_TRACKING_URI" in os.environ
    with _store_lock(uri):
        mlflow.set_tracking_uri(uri)
        if not named:  # it is put there for child processes, but another project of this process must not read it
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        made = MlflowClient(uri)
        made.search_experiments(max_results=1)  # runs the migrations of a new SQLite file
    return made


def experiment(stores: Stores, mlf: MlflowClient, name: str) -> Experiment:
    """Return experiment ``name``, created with artifacts where the settings say (a server decides for itself)."""
    found = mlf.get_experiment_by_name(name)
    if found is not None:
        return found
    location = None if is_server(tracking_uri(stores)) else f"{artifact_root(stores)}/{name}"
    return mlf.get_experiment(mlf.create_experiment(name, artifact_location=location))


def is_server(uri: str) -> bool:
    """Return whether ``uri`` is a tracking server's address, not a database."""
    return uri.startswith(("http://", "https://"))


def artifact_root(stores: Stores) -> str:
    """Return where artifacts lie, as a URL: the bucket as it is, or the folder, which is made."""
    given = stores.mlflow.artifacts
    if "://" in given:
        return given.rstrip("/")
    folder = Path(usable(stores.path(given), "the MLflow artifacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder.as_uri()


@contextmanager
def run(
    mlf: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Open a run and yield its id; it ends FINISHED, or FAILED when the block raises."""
    from mlflow.entities import Param

    made = mlf.create_run(experiment_id, run_name=name, tags=dict(tags) | lineage())
    run_id = str(made.info.run_id)
    try:
        if params:
            mlf.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
        yield run_id
    except BaseException:
        mlf.set_terminated(run_id, "FAILED")
        raise
    mlf.set_terminated(run_id, "FINISHED")


def log_values(mlf: MlflowClient, run_id: str, values: Mapping[str, float], prefix: str = "summary") -> None:
    """Log single values as ``<prefix>/<name>``; NaN is left out (MLflow charts break on it)."""
    from mlflow.entities import Metric

    now = int(datetime.now().timestamp() * 1_000)  # noqa: DTZ005 - epoch milliseconds
    metrics = [Metric(f"{prefix}/{k}", float(v), now, 0) for k, v in values.items() if v == v]  # noqa: PLR0124
    for first in range(0, len(metrics), _BATCH):
        mlf.log_batch(run_id, metrics=metrics[first : first + _BATCH])


def log_series(mlf: MlflowClient, run_id: str, frame: pl.DataFrame, step: str, names: Sequence[str]) -> None:
    """Log columns ``names`` of ``frame`` as ``ts/<name>``, with the integer column ``step`` as step."""
    from mlflow.entities import Metric

    steps = frame[step].to_list()
    stamps = frame["ts"].dt.epoch("ms").to_list() if "ts" in frame.columns else steps
    metrics = [
        Metric(f"ts/{name}", value, stamp, at)
        for name in names
        for value, stamp, at in zip(frame[name].to_list(), stamps, steps, strict=True)
        if value is not None
    ]
    for first in range(0, len(metrics), _BATCH):
        mlf.log_batch(run_id, metrics=metrics[first : first + _BATCH])


def log_dataset(mlf: MlflowClient, run_id: str, name: str, digest: str, source: str) -> None:
    """Record which data the run used; the same digest on every policy's run proves they saw the same."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = Dataset(name=name, digest=digest[:36], source_type="foredrift-lake", source=source)
    mlf.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "evaluation")])])


def lineage() -> dict[str, str]:
    """Return tags that say what code and which scheduled run made this: git sha and flow-run id where there are any."""
    tags = {"git_sha": git_sha()}
    flow_run = os.environ.get("PREFECT__FLOW_RUN_ID")
    return tags | ({"flow_run_id": flow_run} if flow_run else {})


def git_sha() -> str:
    """Return the commit of the installed source tree, ``unknown`` outside one."""
    here = Path(__file__).resolve().parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


@contextmanager
def _store_lock(uri: str) -> Iterator[None]:
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.with_suffix(".lock")):
        yield

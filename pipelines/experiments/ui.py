"""``foredrift ui``: MLflow on the project's store, opened where the newest comparison reads best."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from pipelines.experiments.client import COMPARISON, Stores, artifact_root, client, is_server, tracking_uri
from pipelines.experiments.saved_view import TAG, link
from pipelines.servers import phrase
from pipelines.servers.subprocesses import stop, wait_until_healthy

START_S = 600.0  # seconds MLflow may take: ten on an idle machine, minutes where it moves an older store first


def newest_view(stores: Stores, base: str) -> str:
    """Return the page of the newest comparison, its saved view when it has one, else the plain start page."""
    mlf = client(stores)
    experiment = mlf.get_experiment_by_name(COMPARISON)
    if experiment is None:
        return base
    runs = mlf.search_runs([experiment.experiment_id], "tags.kind = 'summary'", max_results=1)
    key = runs[0].data.tags.get("comparison_id") if runs else None
    known = key is not None and TAG + key in experiment.tags
    return link(base, experiment.experiment_id, key if known else None)


@contextmanager
def mlflow_server(stores: Stores, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on 127.0.0.1:port over the project's store for as long as the block lasts.

    One worker and no job runner: two processes instead of fifteen. The store's address, which may hold a password, goes
    by the environment: command lines are for everyone to see. Raises ForedriftError when it does not start.
    """
    phrase.take()
    environment = {n: v for n, v in os.environ.items() if not n.startswith("FOREDRIFT_")} | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(stores), "MLFLOW_ARTIFACTS_DESTINATION": artifact_root(stores),
    }  # fmt: skip
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_until_healthy(
            process, f"http://127.0.0.1:{port}/health", "is the port taken? try --port", START_S,
            lambda s: typer.echo(f"MLflow is starting, {s:.0f} s so far", err=True),
        )  # fmt: skip
        yield process
    finally:
        stop(process)


def serve_ui(
    stores: Stores, port: int, *, open_browser: bool = True, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Run the MLflow server on 127.0.0.1 until interrupted; ``ready`` is told the page when it answers.

    Raises ForedriftError when it does not start.
    """
    uri = tracking_uri(stores)
    if is_server(uri):
        typer.echo(f"the tracking server is {uri.split('@')[-1]}")
        ready(uri.split("@")[-1])
        return
    page = newest_view(stores, f"http://127.0.0.1:{port}")
    with mlflow_server(stores, port) as process:
        typer.echo(
            f"MLflow: {page}   (choose Model training at the top left if it opens in GenAI mode; Ctrl-C ends it)"
        )
        ready(page)
        if open_browser:
            webbrowser.open(page)
        process.wait()

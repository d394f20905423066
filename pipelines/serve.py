"""``foredrift serve``: all deployments on schedule in one process, with its own scheduler if none is set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from pipelines import watch
from pipelines.process import free_port, stop, wait_until_healthy
from pipelines.settings import Settings

START_S = 240.0  # seconds a server may take to answer: seven on an idle machine, minutes on a crowded one
HEARTBEAT_S = "30"  # seconds between a run's signs of life, the least Prefect allows: a dead worker shows soonest


def serve(settings: Settings, only: Sequence[str] | None = None) -> None:
    """Serve the chosen deployments until interrupted. Raises ConfigError on an unknown name."""
    names = ("ingest", "forecast", "rebalance", "retrain", "compare")
    chosen = tuple(only) if only else names
    unknown = [n for n in chosen if n not in names]
    if unknown:
        raise ConfigError(f"there is no deployment {', '.join(unknown)}; there are {', '.join(names)}")
    watch.configure_logging(settings)
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_S)
    with scheduler(settings.path(".foredrift/prefect")) as url, watch.metrics_port(settings):
        watch.log("scheduler", dashboard=url.removesuffix("/api"))
        from prefect import serve as prefect_serve
        from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
        from prefect.schedules import Cron

        from pipelines.flows import FLOWS, TAGS

        one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
        config = str(settings.path("foredrift.toml"))
        deployments: list[Any] = [
            FLOWS[name].to_deployment(
                name="foredrift",
                schedule=Cron(getattr(settings.schedule, name), timezone=settings.schedule.timezone),
                parameters={"config": config},
                tags=[*TAGS, *(["money"] if name == "rebalance" else [])],
                concurrency_limit=one,
            )
            for name in chosen
        ]
        prefect_serve(*deployments, limit=len(deployments))


@contextmanager
def scheduler(home: Path) -> Iterator[str]:
    """Yield the API URL: the configured one, or that of a server started on loopback for as long as the block lasts."""
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield given
        return
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_API_URL": url,  # else its pages look for the default port
    }  # fmt: skip
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until_healthy(process, f"{url}/health", f"see {home / 'server.log'}", START_S)
        os.environ |= {"PREFECT_API_URL": url, "PREFECT_HOME": str(home)}
        yield url
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        stop(process)

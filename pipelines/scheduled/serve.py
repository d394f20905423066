"""``foredrift serve``: all deployments on schedule in one process, with its own scheduler if none is set.

A scheduler that is started here listens on loopback, answers nobody without the password that only the project's owner
can read, lets no page of another origin in, and inherits neither keys nor other programs' secrets. No parameter of a
run says which project it serves or whether it is live: both are fixed here, by the settings file.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lake.errors import ConfigError
from lake.private import STATE
from pipelines.collisions import SERVED
from pipelines.deployments import Deployment
from pipelines.deployments import deployments as project
from pipelines.monitor.health import FILE as SIGN
from pipelines.monitor.logs import configure_logging, log
from pipelines.scheduled.alive import Pulse, living
from pipelines.scheduled.chat import chatting
from pipelines.scheduled.keeper_watch import groups, keepers
from pipelines.scheduled.metrics import metrics_port
from pipelines.scheduled.page import PortTaken
from pipelines.scheduled.portfolio_serving import chat_of, serving
from pipelines.sections import PageSection
from pipelines.servers import phrase
from pipelines.servers.prefect_server import PASSWORD, scheduler
from pipelines.servers.scheduler_api import api_url
from pipelines.servers.work_pool import require_closed
from pipelines.settings import PREFECT, Settings
from pipelines.stages.halting import Project as Stopping
from pipelines.stages.portfolio import portfolio
from pipelines.stages.status import status
from pipelines.wiring import cron_at, now

NAMES = ("ingest", "forecast", "rebalance", "retrain", "compare")
END_S = 15.0  # for runs to end where the scheduler is gone
HEARTBEAT_S = "30"  # seconds between a run's signs of life, the least Prefect allows: a dead worker shows soonest


def serve(settings: Settings, only: Sequence[str] | None = None) -> None:
    """Serve the chosen deployments until interrupted. Raises ConfigError on an unknown name, and where the project's
    work pool, if the scheduler has one of that name, lets requests change what a run does. With the rebalance goes the
    keeper where [keep] serve asks for it.
    """
    chosen = asked(only)
    configure_logging(settings.watch.log)
    phrase.take()
    phrase.keep_to_this_process()
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_S)
    os.environ |= {"FOREDRIFT_CONFIG": str(settings.file), "PYTHONSAFEPATH": "1"}
    home, stale, own = settings.path(PREFECT), settings.watch.stale_after, api_url() is None
    vaults, guardian = project(settings), settings.stop.guardian
    stopping = Stopping(settings.root, vaults, settings.path(guardian) if guardian else None)
    kept = groups(vaults, settings.keep) if settings.keep.serve and "rebalance" in chosen else []
    chat = chat_of(vaults, settings.chat, stale, stopping)  # first: its token must reach no process started here

    def figures() -> dict[str, Any]:
        return status(settings) | {"portfolios": [portfolio(d, now(), stale, vaults) for d in vaults]}

    with (
        scheduler(home) as url,
        metrics_port(settings.watch.prometheus_port, figures),
        _page(project(settings), settings.page, stale) as page,
        chatting(chat),
    ):
        log("portfolio", page=page)
        log(
            "scheduler", dashboard=url.removesuffix("/api"), config=str(settings.file), live=settings.live_on_schedule,
            sign_in=f"with the content of {home / PASSWORD}" if (home / PASSWORD).exists() else "as you set it up",
        )  # fmt: skip
        require_closed(url, settings.schedule.work_pool)
        with keepers(kept, settings.path(STATE)):
            run(deployments(settings, chosen), Pulse(url, settings.path(SIGN), own))


def asked(only: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the deployments to serve (None: all of them). Raises ConfigError on an unknown one."""
    chosen = tuple(only) if only else NAMES
    unknown = [n for n in chosen if n not in NAMES]
    if unknown:
        raise ConfigError(f"there is no deployment {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return chosen


@contextmanager
def _page(vaults: Sequence[Deployment], given: PageSection, stale_after: str) -> Iterator[str]:
    """Serve the portfolio page of ``vaults`` and yield its address: empty where [page] off leaves it out, or its port
    is taken, which is logged and stops nothing.
    """
    with ExitStack() as held:
        address = ""
        if not given.off:
            try:
                address = held.enter_context(serving(vaults, given, stale_after))
            except PortTaken as error:
                log("no portfolio page", error=str(error))
        yield address


def run(made: Sequence[Any], pulse: Pulse | None = None) -> None:
    """Register ``made`` and carry out their runs until a signal: SIGTERM returns, Ctrl-C raises KeyboardInterrupt.

    ``pulse`` gives signs of life meanwhile. ForedriftError where it finds the scheduler gone.
    """
    from prefect.exceptions import TerminationSignal
    from prefect.runner import Runner

    runner: Any = Runner(limit=len(made))
    for deployment in made:
        runner.add_deployment(deployment)

    async def served() -> None:
        async with living(pulse) as beating:
            runs = asyncio.create_task(runner.start())
            waits = {runs} if beating is None else {runs, beating}
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if runs not in done:
                runs.cancel()
                await asyncio.wait({runs}, timeout=END_S)
            for task in done:
                task.result()

    try:
        asyncio.run(served())
    except TerminationSignal:
        log("stopped", deployments=len(made))


def deployments(settings: Settings, chosen: Sequence[str]) -> list[Any]:
    """Return the deployments named ``chosen``, the rebalance once for every vault;
    each refuses a parameter that its flow does not have.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    from pipelines.flows import FLOWS, TAGS, ClosedSchema

    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made: list[Any] = []
    rows = [(name, SERVED, getattr(settings.schedule, name)) for name in chosen]
    if "rebalance" in chosen:
        first, *others = project(settings)
        rows = [(n, s, cron_at(first, now()) if n == "rebalance" else c) for n, s, c in rows]
        rows += [("rebalance", d.name, cron_at(d, now())) for d in others]
    for name, served_as, cron in rows:
        deployment: Any = FLOWS[name].to_deployment(
            name=served_as,
            schedule=Cron(cron, timezone=settings.schedule.timezone),
            tags=[*TAGS, *(["money"] if name == "rebalance" else [])],
            concurrency_limit=one,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        deployment._parameter_openapi_schema = ClosedSchema.of(FLOWS[name])  # noqa: SLF001 - there is no other way
        made.append(deployment)
    return made

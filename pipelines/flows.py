"""The scheduled flows: one thin shell a stage, around the plain functions the command line calls.

Prefect starts a run at most once and never re-runs a crashed one, so exactly-once lives below: lake writes are
idempotent, and the rebalance stage holds its own lease and looks every unknown outcome up before it acts. Only reads
are retried here. Every scheduled run is a process of its own, so each flow imports its stage when it runs: an ingest
does not pay ten seconds for learners that it never calls.

No flow has a parameter that says which project it serves, whether it is live or which moment it decides at: whoever can
send a request to the scheduler can start a run, and no more. The settings file is fixed where the runs are served.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefect import Flow, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import INPUTS, RUN_ID, TASK_SOURCE
from prefect.client.schemas.objects import State
from prefect.runtime import deployment as served
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.utilities.callables import ParameterSchema, parameter_schema

from lake.errors import ForedriftError, NotEnoughData
from lake.private import STATE
from lake.units import duration
from pipelines.collisions import SERVED
from pipelines.deployments import Deployment, deployments
from pipelines.deployments import deployment as chosen
from pipelines.monitor import notify
from pipelines.monitor.logs import configure_logging
from pipelines.reports.ingest_rows import as_rows
from pipelines.servers import stuck_runs
from pipelines.servers.scheduler_api import api_url
from pipelines.servers.task_results import settle_results
from pipelines.settings import Settings, load, served_file
from pipelines.stages import ingest as ingest_stage
from pipelines.wiring import now

TAGS = ["foredrift"]


class ClosedSchema(ParameterSchema):
    """What a request may ask of a deployment: nothing that its flow has no parameter for."""

    additionalProperties: bool = False  # noqa: N815 - as JSON Schema writes it

    @classmethod
    def of(cls, served: Flow[..., Any]) -> ClosedSchema:
        """Return the closed schema of a flow's parameters."""
        return cls(**(parameter_schema(served).model_dump() | {"additionalProperties": False}))


def _settings() -> Settings:
    """Return the served project's settings; logging is set up with them, once per process."""
    settings = load(served_file())
    configure_logging(settings.watch.log)
    return settings


def _plainly(name: str, work: Callable[[Settings], Any]) -> Any | State:
    """Return what ``work`` makes of the settings; a deliberate error ends the run in one line, without a trace.

    Data that are missing or too old are no failure: the run refuses, says so, and the next one looks again.
    """
    try:
        return work(_settings())
    except NotEnoughData as error:
        said = "; ".join([str(error), *getattr(error, "__notes__", [])])
        get_run_logger().warning("refused: %s", said)
        notify.notify("refused", f"{name} refused", said)
        return Completed(name="Refused", message=said, data={"outcome": "refused", "reason": said})
    except ForedriftError as error:
        said = "; ".join([str(error), *getattr(error, "__notes__", [])])
        get_run_logger().error("failed: %s", said)
        return Failed(message=said)


def notify_failure(flow: Any, flow_run: Any, state: Any, event: str = "failed") -> None:
    """Notify people that a run failed or crashed (a hook of every flow), in the state's words, without a trace."""
    notify.notify(event, f"{flow.name} {state.name.lower()}", f"run {flow_run.name}: {(state.message or '')[:500]}")


_HOOKS: dict[str, Any] = {"on_failure": [notify_failure], "on_crashed": [notify_failure]}
_retrain_failed = partial(notify_failure, event="retrain_failed")
_retrain_failed.__name__ = "retrain_failed"  # type: ignore[attr-defined]  # Prefect names hooks in its log
_RETRAIN_HOOKS: dict[str, Any] = {"on_failure": [_retrain_failed], "on_crashed": [_retrain_failed]}


def look_for_zombies() -> list[str]:
    """Return a sentence per run whose worker is gone and tell people; a scheduler that does not answer is logged."""
    url = api_url()
    if url is None:
        return []
    try:
        dead = [z.text() for z in stuck_runs.zombies(url, own=flow_run.id)]
    except ForedriftError as error:
        get_run_logger().warning("no look at other runs: %s", error)
        return []
    for text in dead:
        get_run_logger().warning(text)
        notify.notify("zombie", "a run's worker is gone", text)
    return dead


@task(retries=3, retry_delay_seconds=[5, 30, 120], persist_result=True, cache_policy=INPUTS + TASK_SOURCE + RUN_ID)
def collect(source: str, until: str) -> dict[str, Any]:
    """Collect one source up to ``until``: a read into an idempotent write, so it may be retried and resumed."""
    return as_rows(ingest_stage.ingest_all(_settings(), [source], None, until))[0]


def _moment_name() -> str:
    """Return a run's name that tells its hour in the scheduler's pages."""
    return f"{flow_run.flow_name}-{now():%Y-%m-%dT%H:%M}"


@flow(name="ingest", flow_run_name=_moment_name, log_prints=True, **_HOOKS)
def ingest() -> Any:
    """Bring the lake up to date, one task a source; a failing source does not stop the others."""
    return _plainly("ingest", _ingest)


def _ingest(settings: Settings) -> list[dict[str, Any]]:
    until = now().replace(second=0, microsecond=0).isoformat()
    names = ingest_stage.source_names(settings)
    states = [collect(name, until, return_state=True) for name in names]
    settle_results(settings.path(STATE), time.time())
    rows = [s.result() for s in states if s.is_completed()]
    if rows:
        create_table_artifact(table=rows, key="ingest", description="What was collected")
    failed = [name for name, state in zip(names, states, strict=True) if not state.is_completed()]
    if failed:
        raise ForedriftError(f"sources that could not be collected: {', '.join(failed)}; the others are up to date")
    return rows


@flow(name="forecast", flow_run_name=_moment_name, **_HOOKS)
def forecast() -> Any:
    """Issue forecasts as of now with the champions."""
    return _plainly("forecast", _forecast)


def _forecast(settings: Settings) -> dict[str, Any]:
    from pipelines.stages import forecast as forecast_stage

    result = forecast_stage.forecast(chosen(settings), None)
    create_table_artifact(table=result["rows"], key="forecasts", description="Forecasts as issued")
    return {"issued": len(result["rows"]), "abstained": result["abstained"]}


@flow(name="rebalance", flow_run_name=_moment_name, **_HOOKS)
def rebalance() -> Any:
    """Run one decision cycle on data as of now; a run that starts too late declines.

    The vault is that of the deployment under whose name the run is served (``foredrift``: the first one).

    Whether it executes is the project's setting (``[schedule] live``; on paper it does unless told otherwise). The
    stage below takes the vault's lease and derives the decision's identity from vault, policy and epoch, so that
    duplicated or overlapping runs execute a decision once. While a keeper owns the vault block by block the run
    declines; a keeper that is gone or silent is stood in for.
    """
    return _plainly("rebalance", _rebalance)


def _rebalance(settings: Settings) -> dict[str, Any] | State:
    look_for_zombies()
    scheduled = flow_run.scheduled_start_time
    late = datetime.now(UTC) - scheduled if scheduled else timedelta(0)
    if late > duration(settings.schedule.max_late):
        get_run_logger().warning(
            "declined: due at %s, %s late, allowed %s", scheduled, late, settings.schedule.max_late
        )
        notify.notify("late", "a rebalance run declined", f"due at {scheduled}, {late} late")
        return {"outcome": "declined", "reason": f"{late} late"}
    from pipelines.settlements.reconcile import owner_of
    from pipelines.stages import rebalance as stage
    from pipelines.stages.saved_log import log_saved_so_far
    from pipelines.vault_setup.transfer_fleet import decides_as_one

    one, project = chosen(settings, None if served.name in {None, SERVED} else str(served.name)), deployments(settings)
    owner = owner_of(one)
    if owner.fresh:
        said = f"declined: keeper owns the vault ({owner.words()})"
        get_run_logger().info(said)
        if one.live and one.fleet is not None and not decides_as_one(one):
            stage.move_on(project, None)  # the keeper of one vault knows of no cash between them
        log_saved_so_far(one, now(), traded=False)
        return Completed(name="Declined", message=said, data={"outcome": "declined", "reason": said})
    if owner.held:
        get_run_logger().warning("%s: this run decides in its stead", owner.words())
    from pipelines.reports.decision import as_markdown

    leads = stage.decided_by(project, one)
    if leads != one.name:
        said = f"declined: {one.name} is part of one portfolio, which the runs of {leads} decide on"
        get_run_logger().info(said)
        return Completed(name="Declined", message=said, data={"outcome": "declined", "reason": said})
    result = stage.cycle_of(project, one, None, live=lambda d: d.live)
    log_saved_so_far(one, now(), traded=result["outcome"] == "traded")
    create_markdown_artifact(as_markdown(result), key=_artifact_key(one), description="The last decision")
    get_run_logger().info("%s: %s", result["outcome"], result["summary"])
    return {"outcome": result["outcome"], "decision_id": result["decision_id"]}


def _artifact_key(one: Deployment) -> str:
    """Return the key of a deployment's last decision: the first one's is ``rebalance``."""
    return "rebalance" if served.name in {None, SERVED} else f"rebalance-{one.name.lower().replace('_', '-')}"


@flow(name="retrain", flow_run_name=_moment_name, **_RETRAIN_HOOKS)
def retrain() -> Any:
    """Train walk-forward up to now and promote on evidence; a failure keeps the champion."""
    return _plainly("retrain", _retrain)


def _retrain(settings: Settings) -> dict[str, Any]:
    from pipelines.stages import train as train_stage

    outcome = train_stage.train(chosen(settings), [], None, None)
    create_table_artifact(table=outcome.table, key="forecast-scores", description="Skill against baselines")
    if outcome.url:
        create_markdown_artifact(f"[MLflow run]({outcome.url})", key="training", description="Where to look")
    return outcome.json


@flow(name="compare", flow_run_name=_moment_name, **_HOOKS)
def compare() -> Any:
    """Compare the policies on the panel and leave the table and the link."""
    return _plainly("compare", _compare)


def _compare(settings: Settings) -> dict[str, Any]:
    from pipelines.stages import compare as compare_stage

    outcome = compare_stage.compare(settings, None, None)
    create_table_artifact(table=outcome.json["policies"], key="policies", description="Cost by policy, bp a year")
    create_markdown_artifact(f"[MLflow run]({outcome.url})", key="comparison", description="Where to look")
    return {"comparison_id": outcome.comparison_id}


FLOWS: dict[str, Flow[..., Any]] = {
    "ingest": ingest,
    "forecast": forecast,
    "rebalance": rebalance,
    "retrain": retrain,
    "compare": compare,
}

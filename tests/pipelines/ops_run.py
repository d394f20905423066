"""Ten simulated hours of operation with failures, printed as a table: ``make ops``.

A Prefect server, an MLflow server and a work-pool worker run the ingest and rebalance deployments of prefect.yaml on
the paper vault, one simulated hour a minute (cron's finest step), with a mandate so tight that most hours trade. The
worker is killed twice and the server once, each with all its processes; at the end the journal, the lake, the scheduler
and the tracking server are asked what happened. Exit 1 when they disagree.

    python -m tests.pipelines.ops_run [--hours 10] [--postgres | --both] [--keep DIR] [--picture FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from lake.units import utc
from pipelines.deployments import deployment
from pipelines.experiments import client
from pipelines.settings import Settings, load
from pipelines.settlements.reconcile import reconcile
from pipelines.stages import rebalance
from pipelines.stages.ingest import ingest_all
from pipelines.wiring import lake_of
from policy.execution.records.journal import Journal
from tests.pipelines.ops_stack import Stack, has_postgres, postgres
from tests.pipelines.pictures import of_scheduler

MINUTE_S = 60
AWAY_S = 10  # a killed process stays away so long before it is started again
BEGIN = datetime(2024, 2, 1, tzinfo=UTC)
HALF_TRADE = 0.5  # share of the hours that must have traded for the drill to have drilled anything
TEXT = """
[portfolio]
assets = ["BTC", "ETH", "LINK"]
nav_usd = 2_500_000
scenario = "hard"
tolerance = 0.0003
[mandate]
min_trade_usd = 1
[mlflow]
tracking_uri = "http://127.0.0.1:{port}"
[sources.sample]
hours = 1500
start = "2024-01-01"
[policy]
kind = "gas_band"
[schedule]
max_late = "5m"
"""
ENVIRONMENT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "OMP_NUM_THREADS": "1",
}


def operate(root: Path, hours: int, databases: str | None, picture: Path | None) -> dict[str, object]:
    """Live through ``hours`` simulated hours with two worker kills and one server kill; return what was found.

    ``picture``: where to keep the scheduler's dashboard as it looked at the end.
    """
    stack = Stack(root, dict(os.environ) | ENVIRONMENT | {"FOREDRIFT_HOME": str(root)}, databases)
    (root / "foredrift.toml").write_text(TEXT.format(port=stack.mlflow_port))
    settings = load(root / "foredrift.toml")
    ingest_all(settings, [], None, BEGIN.isoformat())
    try:
        stack.start_mlflow()
        stack.start_server()
        first = BEGIN - timedelta(hours=1)
        rebalance.rebalance(settings, live=True, as_of=first.isoformat())  # the paper vault buys its targets
        stack.deploy("ingest", "rebalance")
        began = datetime.now(UTC)
        stack.environment["FOREDRIFT_REPLAY"] = f"{BEGIN.isoformat()},{began.isoformat()},{3600 / MINUTE_S}"
        stack.start_worker()
        live_through(stack, began, hours)
        if picture is not None:
            of_scheduler(stack.url, picture)
        runs = [r for r in stack.runs() if utc(r["expected_start_time"]) <= datetime.now(UTC)]
        stack.kill("worker")
        os.environ["FOREDRIFT_REPLAY"] = stack.environment["FOREDRIFT_REPLAY"]
        last = rebalance.rebalance(settings, live=True)  # whatever was in flight is looked up by the next run
        reconcile(deployment(settings), lake_of(settings))
        return findings(settings, runs, began) | {"the run after the drill": last["outcome"]}
    finally:
        os.environ.pop("FOREDRIFT_REPLAY", None)
        stack.end()


def live_through(stack: Stack, began: datetime, hours: int) -> None:
    """Kill and restart on schedule: the worker at three and seven and a half tenths, the server at the half."""

    def until(share: float) -> None:
        time.sleep(max(0.0, (began + timedelta(minutes=hours * share) - datetime.now(UTC)).total_seconds()))

    def tell(text: str) -> None:
        minutes = (datetime.now(UTC) - began).total_seconds() / MINUTE_S
        print(f"simulated hour {minutes:4.1f}: {text}", flush=True)

    for share, name, start in (
        (0.3, "worker", stack.start_worker),
        (0.5, "server", stack.start_server),
        (0.75, "worker", stack.start_worker),
    ):
        until(share)
        tell(f"{name} killed with its {stack.kill(name)} processes")
        time.sleep(AWAY_S)
        start()
        tell(f"{name} back")
    until(1.0)
    tell("end")


def findings(settings: Settings, runs: list[dict], began: datetime) -> dict[str, object]:
    """Return what journal, lake, tracking server and scheduler say of the drill."""
    flights = Journal(settings.path(settings.vault.journal)).flights()
    landed = Counter(f.plan.decision_id for f in flights if f.state == "landed")
    lake = lake_of(settings)
    hours = lake.scan("gas").select("ts").sort("ts").collect()["ts"]
    rows = lake.scan("executions").filter(pl.col("status") == "landed").collect()
    decided = lake.scan("decisions").filter(pl.col("ts") >= BEGIN).collect()
    mlf = client.client(settings)
    live = mlf.get_experiment_by_name(client.LIVE)
    logged = mlf.search_runs([live.experiment_id], "attributes.status = 'FINISHED'") if live else []
    due = {(r["flow"], utc(r["expected_start_time"]).replace(second=0, microsecond=0)) for r in runs}
    ticks = {t for _, t in due}
    missing = [
        (flow, t) for flow in ("ingest", "rebalance") for t in sorted(ticks) if t > began and (flow, t) not in due
    ]
    states = Counter((r["flow"], r["state_type"].lower()) for r in runs)
    return {
        "decisions": decided.height,
        "of these executed": len(landed),
        "most executions of one decision": max(landed.values(), default=0),
        "plans in the journal, still open": f"{len(flights)}, {sum(f.open for f in flights)}",
        "execution rows in the lake": rows.height,
        "executions without their decision's row": len(set(landed) - set(decided["decision_id"])),
        "runs of experiment live": len({r.data.tags["decision_id"] for r in logged}),
        "hours in the lake, newest": f"{len(hours)}, {hours[-1]:%Y-%m-%d %H:%M}",
        "gaps in the lake": int((hours.diff().drop_nulls() > timedelta(hours=1)).sum()),
        "runs due, not shown by the scheduler": f"{len(runs)}, {len(missing)}",
        "audit chain": rebalance.audit_verify(deployment(settings))["text"].split(",")[0],
        **{f"{flow} runs {state}": n for (flow, state), n in sorted(states.items())},
    }


def faults(found: dict[str, object], hours: int) -> list[str]:
    """Return what the drill should not have found."""
    executed = found["of these executed"]
    wrong = {
        "a decision was executed twice": found["most executions of one decision"] != 1,
        "fewer than half of the hours traded": int(str(executed)) < HALF_TRADE * hours,
        "the lake's executions are not the journal's": found["execution rows in the lake"] != executed,
        "an execution has no decision": found["executions without their decision's row"] != 0,
        "the tracking server's executions are not the journal's": found["runs of experiment live"] != executed,
        "the lake has a gap": found["gaps in the lake"] != 0,
        "a run is not visible": not str(found["runs due, not shown by the scheduler"]).endswith(", 0"),
    }
    return [text for text, so in wrong.items() if so]


def show(found: dict[str, dict[str, object]]) -> None:
    """Print one column a database, as Markdown."""
    names = list(dict.fromkeys(n for column in found.values() for n in column))
    print(f"\n| | {' | '.join(found)} |\n|---|{'---:|' * len(found)}")
    for name in names:
        print(f"| {name} | {' | '.join(str(c.get(name, 0)) for c in found.values())} |")


def drill(folder: Path, hours: int, picture: Path | None, *, on_postgres: bool) -> dict[str, object]:
    """Run one drill in ``folder``."""
    root = folder / "project"
    root.mkdir(parents=True)
    folder.chmod(0o755)
    with ExitStack() as stack:
        databases = stack.enter_context(postgres(folder / "pg")) if on_postgres else None
        return operate(root, hours, databases, picture)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--hours", type=int, default=10, help="simulated hours, one a minute")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL cluster of its own, not on SQLite")
    parser.add_argument("--both", action="store_true", help="on SQLite, then on PostgreSQL")
    parser.add_argument("--keep", type=Path, help="folder to leave projects and logs in")
    parser.add_argument("--picture", type=Path, help="where to keep the scheduler's dashboard at the end, as PNG")
    given = parser.parse_args()
    names = ["SQLite", "PostgreSQL"] if given.both else ["PostgreSQL" if given.postgres else "SQLite"]
    if "PostgreSQL" in names and not has_postgres():
        print("PostgreSQL is not installed (no initdb under /usr/lib/postgresql): its half of the drill did NOT run")
        names.remove("PostgreSQL")
        if not names:
            return 1
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        for name in names:
            print(f"\n{given.hours} simulated hours on {name}", flush=True)
            found[name] = drill(
                (given.keep or Path(scratch)) / name, given.hours, given.picture, on_postgres=name == "PostgreSQL"
            )
            show({name: found[name]})
    if len(found) > 1:
        show(found)
    wrong = [f"{name}: {text}" for name, column in found.items() for text in faults(column, given.hours)]
    print("\n" + ("\n".join(wrong) if wrong else "one execution a decision, no gap, every run visible"))
    incomplete = given.both and len(names) < 2
    return 1 if wrong or incomplete else 0


if __name__ == "__main__":
    sys.exit(main())

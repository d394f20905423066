"""One simulated day of the composed services, each killed once: `make compose-day`.

PostgreSQL, MLflow, server, keeper and page run as deploy/compose.yaml starts them (``tests.ops.compose``), on a paper
vault with a mandate so tight that most hours trade. Each service is killed with all its processes, in a seeded order,
and started again as its restart policy does. At the end journal, lake, audit record and tracking server are asked what
happened; every process was looked at for the planted secrets meanwhile. Exit 1 where they disagree. With --minutes 0
no clock is simulated: the services are killed once the hour's decision was carried out, and nothing may do it again.

It takes --minutes from the first start on (24: an hour of the day is a minute) and a few more to stop and to check;
with 0 it takes as long as starting every service twice.

    python -m tests.ops.compose_day [--minutes 24] [--only postgres,keeper,page] [--seed 1] [--keep DIR]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl

from pipelines.deployments import deployments
from pipelines.settings import load
from pipelines.wiring import lake_of
from policy.execution.records.audit import verify
from policy.execution.records.journal import Journal
from tests.ops.compose import PATIENCE_S, Composed, clean_folder, family
from tests.realtime.http_node import http_node
from tests.realtime.truth import TruthChain

BEGIN = datetime(2024, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ALL = ("postgres", "mlflow", "server", "keeper", "page")
PAPER = ("server", "keeper", "page")  # what lives through recorded hours
PLANTED = {
    "passphrase": "PLANTED-passphrase-3f9a",
    "telegram": "",
    "notify": "json://people:PLANTED-notify-77c1@127.0.0.1:9/",
}
TEXT = """
[portfolio]
assets = ["BTC", "ETH", "LINK"]
nav_usd = 250_000
scenario = "hard"
tolerance = 0.001
[vault]
start = [0.4, 0.3, 0.3]
[mandate]
min_trade_usd = 1
[sources.sample]
hours = 1500
{start}
[policy]
kind = "gas_band"
[schedule]
ingest = "* * * * *"
rebalance = "* * * * *"
max_late = "5m"
[keep]
http = ["{node}"]
"""


@contextmanager
def node(clock) -> Iterator[str]:
    """The address of a node whose chain makes a block every twelve seconds of ``clock`` (Unix seconds)."""
    chain = TruthChain(1_000, start_s=int(clock()) - 240)

    def grow(_: object) -> None:
        behind = int((clock() - chain.start_s) // chain.block_s) - (chain.height - chain.first)
        if behind > 0:
            chain.mine(behind)

    with http_node(chain, grow) as url:
        yield url


class Witness:
    """Looks at every process of the services for secrets: in its command line and in its environment."""

    def __init__(self, composed: Composed) -> None:
        names = ("postgres_password", "page_token", "passphrase", "notify")
        self.secrets = {n: (composed.folder / "secrets" / n).read_text().strip() for n in names}
        self.composed, self.found, self.seen = composed, set[str](), 0

    def look(self) -> None:
        for service, process in list(self.composed.processes.items()):
            for pid in family(process.pid):
                for part in ("cmdline", "environ"):
                    try:
                        data = Path(f"/proc/{pid}/{part}").read_bytes()
                    except OSError:
                        continue
                    self.seen += 1
                    self.found |= {f"{n} in {part} of {service}" for n, s in self.secrets.items() if s.encode() in data}

    def files(self) -> set[str]:
        """Return what of the secrets lies outside their folder."""
        found = set()
        for path in self.composed.folder.rglob("*"):
            if "secrets" in path.parts[len(self.composed.folder.parts) :] or not path.is_file():
                continue
            data = path.read_bytes()
            found |= {f"{n} in {path.name}" for n, s in self.secrets.items() if s.encode() in data}
        return found


def day(folder: Path, minutes: float, only: Sequence[str] = ALL, seed: int = 1) -> dict[str, object]:
    """Live through a day in about ``minutes`` of real time (0: through the present hour); return the figures."""
    speed = DAY.total_seconds() / (60 * minutes) if minutes else 1.0
    began = datetime.now(UTC)
    first = BEGIN if minutes else began

    def clock() -> float:
        return (first + (datetime.now(UTC) - began) * speed).timestamp()

    replayed = {"FOREDRIFT_REPLAY": f"{BEGIN.isoformat()},{began.isoformat()},{speed}"} if minutes else {}
    extra = {name: dict(replayed) for name in PAPER}
    if "mlflow" not in only:
        for name in PAPER:
            extra[name] |= {"MLFLOW_TRACKING_URI": "", "FOREDRIFT_MLFLOW__TRACKING_URI": ""}  # nothing is logged
    composed = Composed(folder, extra)
    composed.prepare()
    for name, text in PLANTED.items():
        (folder / "secrets" / name).write_text(text)
    witness, order, told = Witness(composed), list(only), {}
    random.Random(seed).shuffle(order)
    with node(clock) as url:
        file = folder / "project" / "foredrift.toml"
        file.write_text(TEXT.format(node=url, start='start = "2024-01-01"' if minutes else ""))
        file.chmod(0o600)
        one_off(composed, "ingest")
        try:
            start = time.monotonic()
            composed.up(*only)
            told["seconds until all were healthy"] = round(time.monotonic() - start, 1)
            witness.look()
            if not minutes:
                traded(file)
            for i, name in enumerate(order):
                if minutes:
                    until(clock, BEGIN + DAY * (i + 1) / (len(order) + 1))
                killed = composed.kill(name)
                if name != "server":  # whose last sign of life counts for a while
                    assert not composed.healthy(name)[0], f"{name} is dead and its health check passes"
                since = time.monotonic()
                composed.start(name)
                for other in only:
                    composed.wait(other)
                told[f"{name}: processes killed, seconds until all were healthy"] = (
                    f"{killed}, {time.monotonic() - since:.1f}"
                )
                witness.look()
            if minutes:
                until(clock, BEGIN + DAY)
            if "page" in only:
                told["page without its token"] = page(composed, None)
                told["page"] = page(composed, (folder / "secrets" / "page_token").read_text())
            if "server" in only:
                told["metrics"] = metrics(composed)
            one_off(composed, "rebalance", "--live")  # whatever was on its way is looked up
            told |= findings(composed, only)
        finally:
            witness.look()
            composed.down()
    told["secrets in a process"] = sorted(witness.found)
    told["secrets in a file"] = sorted(witness.files())
    told["processes looked at"] = witness.seen // 2
    told["services that ended by themselves and came back"] = composed.restarts or "none"
    return told


def until(clock, moment: datetime) -> None:
    while clock() < moment.timestamp():
        time.sleep(0.2)


def traded(file: Path) -> None:
    """Return when a plan of the project of ``file`` has landed."""
    journal, end = deployments(load(file))[0].journal, time.monotonic() + PATIENCE_S
    while not (journal.exists() and any(f.state == "landed" for f in Journal(journal).flights())):
        assert time.monotonic() < end, "nothing was traded"
        time.sleep(0.5)


def one_off(composed: Composed, *words: str) -> str:
    """Run a verb as ``docker compose run --rm server ...`` does."""
    done = subprocess.run(
        composed.words("server", ["foredrift", *words]), cwd=composed.folder_of("server"), capture_output=True,
        text=True, env=composed.environment("server"), timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    return done.stdout


def page(composed: Composed, token: str | None) -> str:
    """Return what the page answers once it has read the stores, and whether it shows the portfolio."""
    auth = None if token is None else ("", token)
    end = time.monotonic() + PATIENCE_S
    while True:
        got = httpx.get(f"http://127.0.0.1:{composed.ports['page']}/", auth=auth, timeout=60)
        shown = "LINK" in got.text
        if shown or got.status_code != httpx.codes.OK or time.monotonic() > end:
            return f"{got.status_code}{', the portfolio' if shown else ''}"
        time.sleep(0.5)


def metrics(composed: Composed) -> int:
    """Return how many figures the metrics have."""
    text = httpx.get(f"http://127.0.0.1:{composed.ports['server']}/metrics", timeout=60).text
    return sum(line.startswith("foredrift_") for line in text.splitlines())


def findings(composed: Composed, only: Sequence[str]) -> dict[str, object]:
    """Return what journal, lake, audit record and databases say of the day."""
    settings = load(composed.folder / "project" / "foredrift.toml")
    one = deployments(settings)[0]
    flights = Journal(one.journal).flights()
    landed = Counter(f.plan.decision_id for f in flights if f.state == "landed")
    lake = lake_of(settings)
    rows = lake.scan("executions").filter(pl.col("status") == "landed").collect()
    decided = lake.scan("decisions").filter(pl.col("ts") >= BEGIN).collect()
    found: dict[str, object] = {
        "decisions in the lake": decided.height, "of these executed": len(landed),
        "most executions of one decision": max(landed.values(), default=0),
        "plans still open": sum(f.open for f in flights), "execution rows in the lake": rows.height,
        "executions without their decision's row": len(set(landed) - set(decided["decision_id"])),
        "audit record whole": verify(one.audit).ok,
    }  # fmt: skip
    if "mlflow" in only:
        found["runs of experiment live"] = len(live_runs(f"http://127.0.0.1:{composed.ports['mlflow']}"))
    if "server" in only:
        found["scheduled runs by state, in PostgreSQL"] = runs_by_state(composed)
    return found


def live_runs(url: str) -> set[str]:
    """Return the decisions that the tracking server has of experiment ``live``, where what a day saved stands, too."""
    from mlflow.tracking import MlflowClient

    mlf = MlflowClient(url)
    live = mlf.get_experiment_by_name("live")
    runs = mlf.search_runs([live.experiment_id], "attributes.status = 'FINISHED'") if live else []
    return {r.data.tags["decision_id"] for r in runs if "decision_id" in r.data.tags}


def runs_by_state(composed: Composed) -> dict[str, int]:
    """Return the flow runs of the scheduler's database by state, asked over its socket."""
    asked = "SELECT lower(state_type::text) || ' ' || count(*) FROM flow_run GROUP BY state_type ORDER BY 1"
    port = str(composed.ports["postgres"])
    done = subprocess.run(
        ["psql", "-h", "/tmp", "-p", port, "-U", "foredrift", "-d", "prefect", "-Atc", asked], capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    return {name: int(n) for name, n in (line.split() for line in done.stdout.splitlines())}


def faults(found: dict[str, object], only: Sequence[str]) -> list[str]:
    """Return what the day should not have found."""
    executed = found["of these executed"]
    wrong = {
        "nothing was executed": executed == 0,
        "a decision was executed twice": found["most executions of one decision"] != 1,
        "the lake's executions are not the journal's": found["execution rows in the lake"] != executed,
        "an execution has no decision": found["executions without their decision's row"] != 0,
        "a plan is open": found["plans still open"] != 0,
        "the audit record is broken": not found["audit record whole"],
        "the tracking server's executions are not the journal's": found.get("runs of experiment live", executed)
        != executed,
        "a secret is in a process": found["secrets in a process"] != [],
        "a secret is in a file": found["secrets in a file"] != [],
        "the page lets anybody in": found.get("page without its token", "401") != "401",
        "the page shows no portfolio": found.get("page", "200, the portfolio") != "200, the portfolio",
    }
    if "server" in only:
        wrong["no scheduled run was carried out"] = "completed" not in str(
            found["scheduled runs by state, in PostgreSQL"]
        )
        wrong["no metrics"] = not found["metrics"]
    return [text for text, so in wrong.items() if so]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=24.0,
        help="real time that the simulated day takes (default %(default)g); 0: no clock is simulated",
    )  # fmt: skip
    parser.add_argument("--only", default=",".join(ALL), help="services, separated by commas (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of kills (default 1)")
    parser.add_argument("--keep", type=Path, help="folder that stays (default: a fresh one, removed at the end)")
    given = parser.parse_args()
    only = tuple(n for n in ALL if n in given.only.split(","))
    with clean_folder() as scratch:
        folder = given.keep or scratch
        folder.mkdir(parents=True, exist_ok=True)
        found = day(folder, given.minutes, only, given.seed)
    print("| | |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value} |")
    wrong = faults(found, only)
    print(
        "\n" + ("\n".join(wrong) if wrong else "every service came back; no decision lost or doubled; no secret shown")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

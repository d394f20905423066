"""Watching: notifications reach people, metrics answer, secrets are masked, dead runs are found."""

from __future__ import annotations

import io
import json
import threading
from contextlib import redirect_stderr
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import structlog

from lake.errors import ForedriftError
from pipelines.monitor import logs, notify
from pipelines.scheduled import metrics as watching
from pipelines.servers.stuck_runs import SILENT, zombies
from pipelines.servers.subprocesses import free_port
from pipelines.settings import load
from pipelines.stages import rebalance as stage
from pipelines.stages.status import status
from tests.pipelines.market import END, moment, project

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Listener:
    """A loopback server that keeps every JSON body and answers by path."""

    def __init__(self, answer=lambda path, body: {}) -> None:
        self.bodies: list[tuple[str, dict]] = []
        keep = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                keep.append((self.path, body))
                text = json.dumps(answer(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = project(tmp_path_factory.mktemp("watched"), "\n[mandate]\nmin_trade_usd = 1\n")
    portfolio = made.portfolio.model_copy(update={"scenario": "hard", "tolerance": 0.004})
    made = made.model_copy(update={"portfolio": portfolio})
    stage.rebalance(made, live=True, as_of=moment(24 * 30))
    return made


def test_people_are_told_what_was_executed_and_status_shows_the_figures(settings, monkeypatch):
    with Listener() as people:
        monkeypatch.setenv("FOREDRIFT_NOTIFY", f"json://127.0.0.1:{people.port}/")
        done = stage.rebalance(settings, live=True, as_of=moment(0))
    assert done["outcome"] == "traded"
    [(_, body)] = people.bodies
    assert body["title"] == "Foredrift: gas_band traded"
    assert body["type"] == "success"
    figures = status(settings, END)["figures"]
    assert figures["last_execution_h"] == 0
    assert figures["drift_distance"] > 1  # what the decision saw, before it traded
    assert 0 < figures["loss_budget_left_bp"] <= settings.mandate.loss_budget_bps
    assert figures["gas_gwei"] > 0
    assert status(settings, END)["actions"] == {"wait": 1, done["action"]: 1}


def test_a_fallback_decision_tells_people_that_forecasts_abstained(settings, monkeypatch):
    policy = settings.policy.model_copy(update={"kind": "predictive"})
    with Listener() as people:
        monkeypatch.setenv("FOREDRIFT_NOTIFY", f"json://127.0.0.1:{people.port}/")
        stage.rebalance(settings.model_copy(update={"policy": policy}), as_of=moment(0))
    assert [b["title"] for _, b in people.bodies] == ["Foredrift: gas_band decided"]
    assert "no gas forecast" in people.bodies[0][1]["message"]


def test_nobody_to_tell_and_nobody_listening_are_no_failures(monkeypatch):
    monkeypatch.delenv("FOREDRIFT_NOTIFY", raising=False)
    assert notify.notify("failed", "x", "y") is False
    monkeypatch.setenv("FOREDRIFT_NOTIFY", f"json://127.0.0.1:{free_port()}/")
    assert notify.notify("failed", "x", "y") is False


def test_the_metrics_port_shows_ages_and_figures(settings):
    port = free_port()
    with watching.metrics_port(port, lambda: status(settings), every_s=0.1):
        deadline = datetime.now(UTC) + timedelta(seconds=120)
        text = ""
        while "foredrift_table_age_hours{" not in text and datetime.now(UTC) < deadline:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    for name in ("foredrift_table_age_hours", "foredrift_value", "foredrift_decisions", "foredrift_zombie_runs"):
        assert f"\n{name}" in text


def test_without_a_port_nothing_is_served(settings):
    with watching.metrics_port(None, lambda: status(settings)) as metrics:
        assert metrics is None


@pytest.mark.parametrize("form", ["text", "json"])
def test_secret_looking_fields_are_masked_and_decision_ids_are_not(settings, form):
    mine = settings.model_copy(update={"watch": settings.watch.model_copy(update={"log": form})})
    out = io.StringIO()
    with redirect_stderr(out):
        logs.configure_logging(mine.watch.log)
        structlog.get_logger().info("decision", decision_id="abc", passphrase="hunter2", private_key="0xdead")
    structlog.reset_defaults()
    assert "abc" in out.getvalue()
    assert "hunter2" not in out.getvalue()
    assert "0xdead" not in out.getvalue()


def runs_api(heard: set[str]):
    """A scheduler that believes four runs are running, young, alive, dead and the asking one, and one is claimed."""
    long_ago = NOW - 5 * SILENT
    started = {"young": NOW - SILENT / 2, "alive": long_ago, "dead": long_ago, "own": long_ago, "claimed": None}

    def answer(path: str, body: dict):
        if path.endswith("flow_runs/filter"):
            assert body["flow_runs"]["state"]["type"]["any_"] == ["RUNNING", "PENDING"]
            return [
                {"id": k, "name": f"{k}-run", "start_time": v and v.isoformat(),
                 "state": {"type": "RUNNING" if v else "PENDING", "timestamp": long_ago.isoformat()}}
                for k, v in started.items()
            ]  # fmt: skip
        run = body["filter"]["resource"]["id"][0].removeprefix("prefect.flow-run.")
        return {"events": [{}] if run in heard else []}

    return answer


def test_a_run_without_heartbeat_is_a_zombie_young_alive_and_own_are_not():
    with Listener(runs_api({"alive"})) as api:
        found = zombies(f"http://127.0.0.1:{api.port}", NOW, own="own")
    assert [(z.run_id, z.state) for z in found] == [("dead", "RUNNING"), ("claimed", "PENDING")]
    assert "dead-run" in found[0].text()
    assert "crashed" in found[0].text()


def test_status_names_zombies_and_a_silent_scheduler_is_advice(settings, monkeypatch):
    with Listener(runs_api({"alive", "own"})) as api:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{api.port}")
        report = status(settings)
    assert [z for z in report["zombies"] if "dead-run" in z]
    assert report["zombies"][0] in report["advice"]
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("PREFECT_API_URL", url)
    assert any("does not answer" in line for line in status(settings)["advice"])
    with pytest.raises(ForedriftError, match="does not answer"):
        zombies(url)


def test_a_replayed_clock_runs_at_its_pace(monkeypatch, tmp_path):
    from lake.errors import ConfigError
    from pipelines.wiring import now

    real = datetime.now(UTC) - timedelta(seconds=10)
    monkeypatch.setenv("FOREDRIFT_REPLAY", f"2024-01-01,{real.isoformat()},3600")
    ahead = now() - datetime(2024, 1, 1, tzinfo=UTC)
    assert timedelta(hours=10) <= ahead <= 3_600 * (datetime.now(UTC) - real)
    monkeypatch.setenv("FOREDRIFT_REPLAY", "2024-01-01")
    with pytest.raises(ConfigError, match="FOREDRIFT_REPLAY"):
        now()
    assert load(required=False).watch.prometheus_port is None


@pytest.mark.parametrize(
    ("name", "event"), [("ingest", "failed"), ("rebalance", "failed"), ("retrain", "retrain_failed")]
)
def test_every_flow_tells_people_when_it_fails_or_crashes(monkeypatch, name, event):
    from types import SimpleNamespace

    from pipelines.flows import FLOWS

    told = []
    monkeypatch.setattr(notify, "notify", lambda *said: told.append(said))
    flow = FLOWS[name]
    state = SimpleNamespace(name="Crashed", message="exited with status code -9")
    for hook in (*flow.on_failure_hooks, *flow.on_crashed_hooks):
        hook(flow=flow, flow_run=SimpleNamespace(name="night"), state=state)  # by name, as the runner calls them
    assert [t[0] for t in told] == [event, event]
    assert "night" in told[0][2]
    assert "-9" in told[0][2]

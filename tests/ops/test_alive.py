"""Signs of life: what systemd and `foredrift health` are told, and what they are told of something that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lake.errors import ConfigError, ForedriftError
from pipelines.cli import app
from pipelines.deployments import deployment
from pipelines.monitor.health import FILE, SILENT_S, Vital, answers, kept, lines, served, sign
from pipelines.scheduled.alive import Pulse, living
from pipelines.scheduled.metrics import metrics_port
from pipelines.scheduled.page import page_port
from pipelines.scheduled.sd_notify import notify
from pipelines.servers.subprocesses import free_port
from pipelines.settings import load
from pipelines.stages.health import Places, health
from policy.execution.records.owner import Ownership, owning


@contextlib.contextmanager
def server(code: int = 200, paths: list[str] | None = None):
    """The port of a server that answers every question with ``code``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            (paths if paths is not None else []).append(self.path)
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield made.server_port
    finally:
        made.shutdown()
        made.server_close()


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """What a service manager hears, word by word."""
    path, told, done = tmp_path / "notify", [], threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(0.02)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))

        def listen() -> None:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    told.extend(listener.recv(4_096).decode().split("\n"))

        def heard() -> list[str]:
            time.sleep(0.1)
            words = told[:]
            told.clear()
            return words

        thread = threading.Thread(target=listen)
        thread.start()
        yield heard
        done.set()
        thread.join()


def test_a_manager_that_reads_nothing_stops_nobody(tmp_path, monkeypatch):
    path = tmp_path / "deaf"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        said = [notify("WATCHDOG=1") for _ in range(2_000)]
    assert said[0]
    assert not said[-1]


async def live_for(pulse: Pulse, seconds: float) -> None:
    async with living(pulse) as task:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            task.result()


def test_a_scheduler_that_answers_is_ready_once_and_alive_at_every_beat(tmp_path, systemd):
    seen: list[Vital] = []

    async def run(pulse) -> None:
        async with living(pulse):
            for _ in range(6_000):
                await asyncio.sleep(0.01)
                if pulse.file.exists() and len(paths) > 4:
                    break
            seen.append(served(pulse.file))

    paths: list[str] = []
    with server(paths=paths) as port:
        asyncio.run(run(Pulse(f"http://127.0.0.1:{port}/api", tmp_path / FILE, beat_s=0.02)))
    words = systemd()
    assert words.count("READY=1") == 1
    assert words.count("WATCHDOG=1") >= 3
    assert words[-1] == "STOPPING=1"
    assert set(paths) == {"/api/health"}
    assert seen[0].ok
    assert str(os.getpid()) in seen[0].words
    assert not (tmp_path / FILE).exists()
    assert not served(tmp_path / FILE).ok


@pytest.mark.parametrize("code", [500, 401, None])
def test_a_scheduler_that_does_not_answer_is_never_ready_and_ends_its_process_once_it_is_gone(tmp_path, systemd, code):
    ticks = iter(range(10_000))
    with server(code or 200) as port:
        url = f"http://127.0.0.1:{port if code else free_port()}/api"
        pulse = Pulse(url, tmp_path / FILE, beat_s=0.001, gone_s=20.0, clock=lambda: float(next(ticks)))
        with pytest.raises(ForedriftError, match="has not answered for 20 s"):
            asyncio.run(live_for(pulse, 60))
    assert "READY=1" not in systemd()
    assert not (tmp_path / FILE).exists()


def test_a_scheduler_of_somebody_else_is_waited_for(tmp_path, systemd):
    ticks = iter(range(10_000_000))
    url = f"http://127.0.0.1:{free_port()}/api"
    pulse = Pulse(url, tmp_path / FILE, own=False, beat_s=0.001, gone_s=1.0, clock=lambda: float(next(ticks)))
    asyncio.run(live_for(pulse, 0.3))
    assert "WATCHDOG=1" in systemd()


def test_a_loop_that_hangs_gives_no_sign(tmp_path, systemd):
    async def run(pulse) -> list[str]:
        async with living(pulse):
            await asyncio.sleep(0.3)
            assert systemd()
            time.sleep(0.3)  # noqa: ASYNC251 - what a blocked loop looks like
            return systemd()

    with server() as port:
        assert asyncio.run(run(Pulse(f"http://127.0.0.1:{port}/api", tmp_path / FILE, beat_s=0.01))) == []


def test_without_a_pulse_nothing_is_told(systemd):
    async def run() -> None:
        async with living(None) as task:
            assert task is None

    asyncio.run(run())
    assert systemd() == []


@given(age=st.floats(-1e4, 1e4))
def test_a_sign_counts_while_it_is_young(tmp_path_factory, age):
    file = tmp_path_factory.getbasetemp() / "signs" / "served.json"
    sign(file, 7, 1_000.0)
    found = served(file, 1_000.0 + age)
    assert found.ok == (abs(age) <= SILENT_S)
    assert file.stat().st_mode & 0o77 == 0
    assert [p.name for p in file.parent.iterdir()] == ["served.json"]


@settings(max_examples=40)
@given(text=st.one_of(st.text(max_size=20), st.just('{"pid": 1}'), st.just('{"time": null}'), st.just("[1]")))
def test_a_damaged_sign_is_none(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "damaged.json"
    file.write_text(text, encoding="utf-8")
    assert not served(file, 0.0).ok


def test_every_vault_is_to_be_kept():
    fresh, silent, none = Ownership(True, True, 1.0, {"pid": 3}), Ownership(True, False, 99.0, {"pid": 4}), Ownership()
    assert kept({"a": fresh, "b": fresh}).ok
    found = kept({"a": fresh, "b": silent, "c": none})
    assert not found.ok
    assert "keeper 4" in found.words
    assert "c: nobody keeps it" in found.words
    assert "a:" not in found.words


def test_an_answer_is_200_and_no_password_is_told():
    with server() as port:
        assert answers("page", f"http://127.0.0.1:{port}/health").ok
    with server(503) as port:
        assert not answers("page", f"http://127.0.0.1:{port}/health").ok
    gone = answers("mlflow", f"http://user:hunter2@127.0.0.1:{free_port()}/health")
    assert not gone.ok
    assert "hunter2" not in gone.words


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with page and metrics on ports of their own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file, page, metrics = tmp_path / "foredrift.toml", free_port(), free_port()
    file.write_text(
        f'[portfolio]\nassets = ["BTC", "ETH"]\n[page]\nport = {page}\n[watch]\nprometheus_port = {metrics}\n'
    )
    return file


def asked(file, *what: str) -> tuple[int, dict[str, bool]]:
    out = file.with_name("health.json")
    done = CliRunner().invoke(app, ["health", *what, "--config", str(file), "--json", str(out)])
    if isinstance(done.exception, ForedriftError):
        raise done.exception
    found = {row["what"]: row["ok"] for row in json.loads(out.read_text())}
    assert all(f"{'ok  ' if ok else 'DOWN'} {name}: " in done.output for name, ok in found.items())
    return done.exit_code, found


def test_the_verb_says_what_is_alive_and_what_is_down(project):
    one = load(project)
    assert asked(project) == (1, {"serve": False, "page": False, "metrics": False})
    sign(one.path(FILE), os.getpid(), time.time())
    assert asked(project, "serve") == (0, {"serve": True})

    def unread():
        raise ForedriftError("the stores are away: a page answers all the same")

    none = dict.fromkeys(("tables", "forecasts", "models", "coverage"), ())
    with (
        page_port({"a": unread}, lambda _: {}, ("127.0.0.1", one.page.port), every_s=60.0),
        metrics_port(one.watch.prometheus_port, lambda: none, every_s=60.0),
    ):
        assert asked(project, "page", "metrics") == (0, {"page": True, "metrics": True})
    with owning(deployment(one).journal) as file:
        assert asked(project, "keeper")[0] == 1
        file.refresh(41)
        assert asked(project, "keeper") == (0, {"keeper": True})
    assert asked(project, "keeper") == (1, {"keeper": False})


def test_mlflow_is_asked_where_it_is_a_server(project, monkeypatch):
    with server() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        assert asked(project, "mlflow") == (0, {"mlflow": True})
    assert asked(project, "mlflow") == (1, {"mlflow": False})


def test_what_does_not_exist_or_is_switched_off_is_refused(project):
    with pytest.raises(ConfigError, match="there is no worker to look at"):
        asked(project, "worker")
    with pytest.raises(ConfigError, match="tracking_uri leaves it out"):
        asked(project, "mlflow")
    project.write_text("[page]\noff = true\n")
    for what, setting in (("page", "off"), ("metrics", "prometheus_port")):
        with pytest.raises(ConfigError, match=setting):
            asked(project, what)
    assert set(asked(project)[1]) == {"serve"}


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:9/health"),
        ("::", "http://[::1]:9/health"),
        ("10.0.0.7", "http://10.0.0.7:9/health"),
    ],
)
def test_an_address_for_everybody_is_asked_here(bind, url, tmp_path):
    assert Places(tmp_path, dict, (bind, 9), None, "sqlite:///x").here("page") == url


def test_a_keeper_is_looked_at_where_serve_starts_it(tmp_path):
    places = Places(tmp_path / "none", lambda: {"a": Ownership()}, None, None, "sqlite:///x", keeper=True)
    assert [one.what for one in health(places)] == ["serve", "keeper"]
    assert all(line.startswith("DOWN") for line in lines(health(places)))

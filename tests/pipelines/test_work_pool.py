"""What a work pool leaves to whoever may start a run: found by serve and doctor, with the command that closes it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from lake.errors import ConfigError, ForedriftError
from pipelines.servers.work_pool import open_to_requests, require_closed, softness
from pipelines.stages import doctor

CLOSED = json.loads((Path(__file__).resolve().parents[2] / "work-pool.json").read_text())
PREFECTS = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "working_dir": "{{ working_dir }}"},
    "variables": {"type": "object", "properties": {"command": {}, "env": {}, "working_dir": {}, "name": {}}},
}
OPEN = {
    "no template": ({}, "sets command, environment and folder"),
    "Prefect's own": (PREFECTS, "a request sets command, env, name, working_dir"),
    "one variable left": (CLOSED | {"variables": {"properties": {"env": {}}}}, "a request sets env"),
    "filled in": ({"job_configuration": {"command": "{{ command }}"}, "variables": {}}, "filled in by requests"),
}


@pytest.fixture
def pools() -> Iterator[tuple[str, dict[str, Any]]]:
    """A scheduler that tells of the pools in the returned mapping."""
    known: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            template = known.get(self.path.rsplit("/", 1)[1])
            body = json.dumps({"base_job_template": template}).encode() if template != "broken" else b"<html>"
            self.send_response(404 if template is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api", known
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", OPEN)
def test_an_open_pool_is_refused_with_the_command_that_closes_it(pools, kind, monkeypatch, tmp_path):
    url, known = pools
    known["foredrift"], words = OPEN[kind]
    assert words in open_to_requests(known["foredrift"])
    with pytest.raises(ConfigError, match="prefect work-pool update foredrift --base-job-template work-pool.json"):
        require_closed(url, "foredrift")
    monkeypatch.setenv("PREFECT_API_URL", url)
    (tmp_path / "foredrift.toml").write_text("")
    (row,) = [f for f in doctor.examine(tmp_path / "foredrift.toml") if f["check"] == "work pool"]
    assert row["level"] == "error"
    assert words in row["found"]


def test_the_shipped_template_leaves_nothing_and_no_pool_is_no_fault(pools, monkeypatch):
    url, known = pools
    known["foredrift"] = CLOSED
    require_closed(url, "foredrift")
    require_closed(url, "another")
    known["broken"] = "broken"
    with pytest.raises(ForedriftError, match="does not tell of work pool broken"):
        softness(url, "broken")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert [row["level"] for row in doctor._pool("foredrift")] == ["warn"]
    monkeypatch.delenv("PREFECT_API_URL")
    assert list(doctor._pool("foredrift")) == []


@pytest.mark.parametrize("late", [0, 3, 5, 6])
def test_a_scheduler_that_answers_late_is_asked_again_and_one_that_never_does_is_told(monkeypatch, late):
    asked = []

    def get(url, **_):
        asked.append(url)
        if len(asked) <= late:
            raise httpx.ReadTimeout("late")
        return httpx.Response(404, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    if late < 6:
        assert softness("http://127.0.0.1:9/api", "foredrift") == ""
        assert len(asked) == late + 1
    else:
        with pytest.raises(ForedriftError, match="does not tell of work pool foredrift"):
            softness("http://127.0.0.1:9/api", "foredrift")


def test_a_scheduler_that_is_not_there_is_asked_once(monkeypatch):
    asked = []

    def get(url, **_):
        asked.append(url)
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx, "get", get)
    with pytest.raises(ForedriftError, match="ConnectError"):
        softness("http://127.0.0.1:9/api", "foredrift")
    assert len(asked) == 1

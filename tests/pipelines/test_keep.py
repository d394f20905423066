"""``foredrift keep`` on the simulated vault: replayed blocks, what status, doctor and metrics say, signals, systemd."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from dataclasses import replace

import numpy as np
import pytest

from lake.errors import ConfigError
from lake.heads import Extended, Head, Jumped, Reorged, Stale
from lake.units import utc
from pipelines.demo.demo_blocks import keep_blocks
from pipelines.deployments import deployment, deployments
from pipelines.scheduled.keep import Mail, keep, percentiles, slope
from pipelines.scheduled.keep_vaults import KeepChoice, keep_vaults
from pipelines.scheduled.metrics import Metrics
from pipelines.scheduled.sd_notify import notify
from pipelines.stages.doctor import examine
from pipelines.stages.status import status
from pipelines.wiring import lake_of
from policy.execution.records import owner
from policy.execution.records.audit import Audit, verify
from policy.execution.vaults.simulated import adapter
from policy.strategies.replay import replay
from tests.execution.simlab import chain
from tests.keeping.kit import header, keeper
from tests.pipelines.market import moment, project


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return project(tmp_path_factory.mktemp("kept"), "\n[vault]\nstart = [0.5, 0.3, 0.2]\n")


@pytest.fixture(scope="module")
def kept(settings):
    return keep_vaults(deployments(settings), settings.keep, KeepChoice(start=moment(48), blocks=60))


def test_a_replay_looks_at_every_block_trades_on_paper_and_leaves_the_project_as_it_was(settings, kept):
    assert kept["blocks"] == 60
    assert kept["outcomes"]["traded"] >= 1
    assert "seeded" in kept["notes"]
    folder = settings.root / ".foredrift" / "replay" / settings.portfolio.name
    assert verify(folder / "audit.jsonl").ok
    sim, _ = adapter.load(folder / "vault.json")
    assert sim.world.clock.nonce == kept["outcomes"]["traded"]
    assert not (settings.root / ".foredrift" / "vault.json").exists()
    assert lake_of(settings).scan("decisions").collect().is_empty()


def test_a_decision_says_what_asked_for_it_and_keeps_the_looks_before_it(settings, kept):
    folder = settings.root / ".foredrift" / "replay" / settings.portfolio.name
    made = [line.body for line in Audit(folder / "audit.jsonl").records() if line.body["event"] == "decision"]
    told = next(b["keeper"] for b in made if b.get("plan"))
    assert set(told["trigger"]) & {"price", "gas", "breach", "hour"}
    looks = json.loads((folder / "looks" / told["looks"]).read_text())
    assert looks["looks"][-1][0] == told["block"]
    assert looks["columns"] == ["block", "price_gwei", "distance", "in_tolerances", "reserve_gwei"]
    for body in made:
        assert not replay(body).differs


def test_the_demo_waits_with_a_drifted_vault_for_cheaper_gas_and_draws_it(settings, tmp_path):
    found = keep_blocks(deployment(settings), utc(moment(48)), tmp_path, 80)
    assert found["blocks"] == 80
    assert (tmp_path / "blocks.png").stat().st_size > 10_000
    for trade in found["trades"]:
        assert trade["price_gwei"] < found["first_price_gwei"]


def test_the_same_blocks_give_the_same_trades(settings, kept):
    again = keep_vaults(deployments(settings), settings.keep, KeepChoice(start=moment(48), blocks=60))
    names = ("block", "outcome", "decision_id", "triggers")
    assert [[a[n] for n in names] for a in again["acts"]] == [[a[n] for n in names] for a in kept["acts"]]


def test_what_does_not_fit_together_is_refused(settings):
    with pytest.raises(ConfigError, match="--live executes on a chain"):
        keep_vaults(deployments(settings), settings.keep, KeepChoice(live=True))
    with pytest.raises(ConfigError, match="heads need a node"):
        keep_vaults(deployments(settings), settings.keep, KeepChoice(blocks=1))


def test_status_doctor_and_metrics_tell_of_a_keeper_and_of_one_that_is_silent(settings):
    one = deployment(settings)
    assert status(settings)["deployments"][0]["keeper"]["held"] is False
    with owner.owning(one.journal) as file:
        file.refresh(41, {"order": {"cap_gwei": 9.5}, "table": "", "head_age_s": 3.0, "nodes": [], "refusal": None})
        report = status(settings)
        told = report["deployments"][0]["keeper"]
        assert (told["held"], told["fresh"], told["block"], told["order"]) == (True, True, 41, {"cap_gwei": 9.5})
        metrics = Metrics()
        metrics.update(report)
        name = settings.portfolio.name
        for figure, value in {"fresh": 1.0, "block": 41.0, "order_gwei": 9.5, "head_age_s": 3.0}.items():
            found = metrics.registry.get_sample_value("foredrift_keeper", {"vault": name, "figure": figure})
            assert found == value
        row = next(r for r in examine(settings.file) if r["check"] == "keeper")
        assert row["level"] == "ok"
        assert "9.50 gwei" in row["found"]
        body = json.loads(owner.owner_path(one.journal).read_text())
        owner.owner_path(one.journal).write_text(json.dumps(body | {"time": body["time"] - 60.0}))
        assert any("silent" in line for line in status(settings)["advice"])
        assert next(r for r in examine(settings.file) if r["check"] == "keeper")["level"] == "error"


def test_systemd_is_told_and_nobody_listening_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    assert not notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        assert notify("READY=1", "STATUS=block 7")
        assert listener.recv(100) == b"READY=1\nSTATUS=block 7"


def head(number: int) -> Head:
    return Head(number, f"0x{number:064x}", f"0x{number - 1:064x}", 1_700_000_000 + 12 * number, 10**9, 15, 30)


def test_the_mailbox_holds_the_newest_head_and_the_deepest_undoing():
    mail = Mail()
    mail.put(Extended(head(5)))
    mail.put(Reorged(head(3), (head(5), head(4)), (head(4), head(5), head(6))))
    mail.put(Reorged(head(4), (head(6), head(5)), (head(5), head(6))))
    mail.put(Stale(9.0, "stale"))
    found, ancestor, _ = mail.take()
    assert (found.number, ancestor) == (6, 3)
    mail.put(Jumped(head(900), "too far"))
    assert mail.take()[:2] == (head(900), -1)
    mail.put(Extended(head(901)))
    assert mail.take()[1] is None


def test_sigterm_ends_it_between_two_blocks_and_systemd_hears_of_it(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    sim = chain()
    one, _ = keeper(tmp_path, sim)

    async def events():
        for _ in range(3):
            h = header(sim)
            yield Extended(replace(head(h.number), hash=h.hash, timestamp_s=h.timestamp_s, base_fee_wei=10**9))
            await asyncio.sleep(0.05)
            sim.mine()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        run = asyncio.run(keep(one, events()))
        listener.setblocking(False)
        heard = []
        while True:
            try:
                heard.append(listener.recv(100))
            except BlockingIOError:
                break
    assert 1 <= run.blocks <= 3
    assert b"READY=1" in heard
    assert b"WATCHDOG=1" in heard
    assert heard[-1] == b"STOPPING=1"


def test_figures_of_a_run_are_none_where_nothing_was_measured():
    assert percentiles("decision", np.array([])) == {"decision_p50_ms": None, "decision_p99_ms": None}
    assert percentiles("decision", np.array([0.001] * 99 + [0.1]))["decision_p50_ms"] == 1.0
    assert slope(np.ones(50)) is None
    assert slope(np.arange(200.0)) == pytest.approx(100.0)

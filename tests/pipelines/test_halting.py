"""``foredrift stop``: scheduled runs, `rebalance --live` and the keeper refuse until `foredrift resume`."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lake.errors import ForedriftError
from lake.units import utc
from pipelines import flows
from pipelines.cli import app
from pipelines.deployments import deployments
from pipelines.scheduled.keep_vaults import KeepChoice, keep_vaults
from pipelines.settings import load
from pipelines.settlements.halting import halt_of
from pipelines.stages import halting
from pipelines.stages import rebalance as stage
from pipelines.stages.status import status
from pipelines.vault_setup import cycle
from policy.execution.records.audit import Audit, verify
from tests.pipelines.market import END, moment, project


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return project(tmp_path_factory.mktemp("halted"), "\n[vault]\nstart = [0.5, 0.3, 0.2]\n")


@pytest.fixture
def settings(market, monkeypatch):
    """The project, running, with its file as the one that is served."""
    monkeypatch.chdir(market.root)
    monkeypatch.setenv("FOREDRIFT_CONFIG", str(market.file))
    yield load(market.file)
    halt_of(market).resume()


def whole(settings) -> halting.Project:
    return halting.Project(settings.root, deployments(settings))


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def scheduled(monkeypatch):
    """Carry out a scheduled rebalance as the scheduler would, at the end of the market."""
    monkeypatch.setattr(flows, "get_run_logger", lambda: logging.getLogger("halted"))
    monkeypatch.setattr(flows, "look_for_zombies", list)
    monkeypatch.setattr(flows, "create_markdown_artifact", lambda *_, **__: None)
    monkeypatch.setattr(flows, "flow_run", SimpleNamespace(scheduled_start_time=None, id=None))
    monkeypatch.setattr(cycle, "present", lambda _: END)
    return flows.rebalance.fn()


def test_every_way_to_trade_refuses_until_it_is_resumed(settings, monkeypatch):
    code, said = run("stop", "--reason", "the market looks odd", "--json", "s.json")
    assert code == 0
    assert "trading is stopped" in said
    assert json.loads((settings.root / "s.json").read_text())["reason"] == "the market looks odd"
    assert scheduled(monkeypatch)["outcome"] == "refused"
    live = stage.rebalance(settings, live=True, as_of=moment(0))
    assert [v["check"] for v in live["verdicts"] if not v["ok"]] == ["halted"]
    assert "the market looks odd" in live["why"]
    kept = keep_vaults(deployments(settings), settings.keep, KeepChoice(start=moment(48), blocks=3))
    assert set(kept["outcomes"]) == {"refused"}
    seen = status(settings, END)
    assert seen["halted"]["reason"] == "the market looks odd"
    assert "the market looks odd" in seen["advice"][0]
    code, said = run("resume")
    assert code == 0
    assert "trading goes on" in said
    assert status(settings, END)["halted"] is None
    assert scheduled(monkeypatch)["outcome"] == "traded"
    kept = keep_vaults(deployments(settings), settings.keep, KeepChoice(start=moment(48), blocks=3))
    assert kept["outcomes"].get("traded")


def test_both_are_in_the_audit_record_which_stays_whole(settings):
    before = len(Audit(settings.path(settings.vault.audit)).records())
    halting.stop(whole(settings), "once", "chat")
    assert halting.stop(whole(settings), "twice")["already"]
    halting.resume(whole(settings))
    new = [line.body for line in Audit(settings.path(settings.vault.audit)).records()][before:]
    assert [(b["event"], b["reason"], b["by"]) for b in new] == [
        ("halt", "once", "chat"),
        ("resume", "once", "terminal"),
    ]
    assert all(utc(b["ts"]) for b in new)
    assert verify(settings.path(settings.vault.audit)).ok
    assert stage.audit_verify(deployments(settings)[0])["ok"]
    assert halting.resume(whole(settings))["was"] is None


def test_a_record_that_cannot_be_kept_never_lets_trading_go_on(settings, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(halting.Audit, "append", refuse)
    made = halting.stop(whole(settings), "full disk")
    assert made["halted"]
    assert "no space left" in made["troubles"][0]
    assert halt_of(settings).told()
    with pytest.raises(ForedriftError, match="stays stopped"):
        halting.resume(whole(settings))
    assert halt_of(settings).told()

"""What status, notifications and the transfers' refusals say: a sentence, never a check's raw name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.deployments import deployments
from pipelines.reports import terminal, transfer_tables
from pipelines.reports.check_words import CHECKS
from pipelines.settlements.halting import halt_of
from pipelines.stages import halting
from pipelines.stages import rebalance as stage
from pipelines.stages.status import status
from pipelines.stages.told_decisions import newest_words
from pipelines.vault_setup import cycle
from tests.pipelines.market import END, moment, project


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A project that traded and was then stopped, what people were told of both, and what status said each time."""
    settings = project(tmp_path_factory.mktemp("told"), "\n[vault]\nstart = [0.5, 0.3, 0.2]\n")
    said: list[tuple[str, str, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle.notify, "notify", lambda *words: said.append(words))
        before = newest_words(deployments(settings)[0])
        done = stage.rebalance(settings, live=True, as_of=moment(24))
        traded = status(settings, END)
        halting.stop(halting.Project(settings.root, deployments(settings)), "the market looks odd")
        stage.rebalance(settings, live=True, as_of=moment(1))
        stopped = status(settings, END)
        halt_of(settings).resume()
    return SimpleNamespace(settings=settings, said=said, before=before, done=done, traded=traded, stopped=stopped)


def test_status_says_the_last_decision_as_a_sentence(told, capsys):
    assert told.before is None
    assert told.done["outcome"] == "traded"
    [row] = told.traded["deployments"]
    assert row["sentence"].startswith("Traded ")
    assert " for " in row["sentence"]
    terminal.status(told.traded)
    assert " ".join(row["sentence"].split()[:6]) in " ".join(capsys.readouterr().out.split())
    [row] = told.stopped["deployments"]
    assert row["sentence"].startswith("Not trading: trading is stopped")
    assert "the market looks odd" in row["sentence"]


def test_people_hear_what_was_traded_and_why_nothing_is(told):
    by_event = {event: body for event, _, body in told.said}
    assert by_event["executed"] == told.traded["deployments"][0]["sentence"]
    assert by_event["refused"].startswith("Not trading: trading is stopped by hand")
    assert "the market looks odd" in by_event["refused"]
    for body in by_event.values():
        assert not [check for check in CHECKS if "_" in check and check in body]


@pytest.mark.parametrize("check", ["bridge_quote", "recipient_not_ours", "gas_money_destination", "transit_cap"])
def test_a_transfer_that_may_not_go_says_so_in_words(check, capsys):
    made = {
        "saga_id": "0xabc", "from": 1, "to": 10, "bridge": "simulated", "amount": 5, "asset": "USDC", "least": 4,
        "fee": 1, "planned": False, "verdicts": [{"check": check, "ok": False, "reason": "17 against 9"}],
    }  # fmt: skip
    transfer_tables.plan(made)
    out = capsys.readouterr().out
    assert f"refused: {CHECKS[check]} (17 against 9)" in out
    assert check not in out

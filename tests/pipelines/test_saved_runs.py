"""What was saved so far, in MLflow: negative or not, with its interval, once an hour of the record, a run a vault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from lake.errors import StoreError
from pipelines.experiments import client, saved_runs
from pipelines.experiments.saved_runs import SECTION, figures, log_saved
from pipelines.settings import load
from pipelines.stages import saved_log
from tests.pipelines.page_data import DATA

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAVED = {**DATA["saved"], "words": "+84 USD against gas_band"}
LOST = f"{SECTION}/against the 5 pct threshold"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    file = tmp_path_factory.mktemp("saved") / "foredrift.toml"
    file.write_text("")
    return load(file)


def steps(project, run_id, metric):
    return [(m.step, m.value) for m in client.client(project).get_metric_history(run_id, metric)]


@pytest.mark.slow
def test_a_loss_is_logged_as_one_with_its_interval_and_an_hour_once(project):
    run_id = log_saved(project, "the owner's", SAVED, AT)
    assert log_saved(project, "the owner's", {**SAVED, "against": SAVED["against"][::-1]}, AT) == run_id
    later = {**SAVED, "hours": SAVED["hours"] + 24}
    assert log_saved(project, "the owner's", later, AT + timedelta(days=1)) == run_id
    run = client.client(project).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics[LOST] == -341.0
    assert (run.data.metrics[f"{LOST} at least"], run.data.metrics[f"{LOST} at most"]) == (-520.0, -160.0)
    assert [s for s, _ in steps(project, run_id, LOST)] == [1_008, 1_032]
    assert "+84 USD against gas_band (since 2026-01-18" in run.data.tags["mlflow.note.content"]
    assert log_saved(project, "other", SAVED, AT) != run_id


def test_an_interval_that_is_not_known_has_no_ends_and_nothing_decided_is_nothing_logged(project):
    short = [{**SAVED["against"][0], "low": None, "high": None}]
    assert figures({"against": short}) == {"against gas_band": 84.0}
    assert log_saved(project, "main", {**SAVED, "against": []}, AT) is None


def test_a_tracking_server_that_is_away_is_said_and_stops_nothing(project, monkeypatch):
    said = []

    def away(_):
        raise ConnectionError("refused")

    monkeypatch.setattr(saved_runs.client, "client", away)
    monkeypatch.setattr(saved_runs, "log", lambda event, **more: said.append((event, more["error"])))
    assert log_saved(project, "main", SAVED, AT) is None
    assert said == [("saved so far not logged", "refused")]


def vault(tmp_path, uri="sqlite:///x.db", times=()):
    audit = tmp_path / "audit.jsonl"
    audit.touch()
    found = SimpleNamespace(mlflow=SimpleNamespace(tracking_uri=uri), audit=audit, name="main")
    return found, [SimpleNamespace(body={"event": "decision", "ts": t.isoformat()}) for t in times]


@pytest.mark.parametrize(
    ("minutes_ago", "traded", "due"),
    [
        ((), False, True),
        ((0,), False, True),  # its own decision
        ((5, 13 * 60), False, True),  # yesterday's are no matter
        ((5, 60), False, False),
        ((5, 60), True, True),
    ],
)
def test_it_is_logged_with_the_first_decision_of_a_day_and_after_trades(
    tmp_path, monkeypatch, minutes_ago, traded, due
):
    given, lines = vault(tmp_path, times=[AT - timedelta(minutes=m) for m in minutes_ago])
    logged = []
    monkeypatch.setattr(saved_log, "Audit", lambda _: SimpleNamespace(records=lambda: lines))
    monkeypatch.setattr(saved_log, "saved", lambda _, at: {"at": at})
    monkeypatch.setattr(saved_runs, "log_saved", lambda *asked: logged.append(asked) or "run")
    assert saved_log.log_saved_so_far(given, AT, traded=traded) == ("run" if due else None)
    assert logged == ([(given, "main", {"at": AT}, AT)] if due else [])


def test_what_cannot_be_told_is_said_and_the_run_goes_on(tmp_path, monkeypatch):
    def broken(*_):
        raise StoreError("the lake is gone")

    said = []
    monkeypatch.setattr(saved_log, "saved", broken)
    monkeypatch.setattr(saved_log, "log", lambda event, **more: said.append((event, more["error"])))
    assert saved_log.log_saved_so_far(vault(tmp_path)[0], AT, traded=True) is None
    assert said == [("saved so far not logged", "the lake is gone")]


def test_without_a_store_or_a_record_nothing_is_read(tmp_path, monkeypatch):
    def read(*_):
        raise StoreError("it was read")

    monkeypatch.setattr(saved_log, "saved", read)
    given, _ = vault(tmp_path, uri="")
    assert saved_log.log_saved_so_far(given, AT, traded=True) is None
    given, _ = vault(tmp_path)
    given.audit.unlink()
    assert saved_log.log_saved_so_far(given, AT, traded=True) is None

"""A rebalance run that starts late: it declines and says so, or acts on data as of now."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipelines import flows
from pipelines.deployments import Deployment


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Run the flow's body as if due ``late`` ago; returns what it gave, the stage's calls and the notifications."""
    (tmp_path / "foredrift.toml").write_text('[schedule]\nmax_late = "30m"\n')
    monkeypatch.setenv("FOREDRIFT_CONFIG", str(tmp_path / "foredrift.toml"))
    monkeypatch.setattr(flows, "get_run_logger", lambda: logging.getLogger("late"))
    monkeypatch.setattr(flows, "look_for_zombies", list)
    monkeypatch.setattr(flows, "create_markdown_artifact", lambda *_, **__: None)

    def start(late: timedelta):
        calls: list[bool] = []
        said: list[tuple[str, ...]] = []

        def decide(_deployment, _at, *, live, **_):
            calls.append(live)
            return {"outcome": "waited", "decision_id": "d", "summary": "", "weights": [], "verdicts": []}

        monkeypatch.setattr(flows, "flow_run", SimpleNamespace(scheduled_start_time=datetime.now(UTC) - late, id=None))
        monkeypatch.setattr(Deployment, "step", decide)
        monkeypatch.setattr(flows.notify, "notify", lambda *words: said.append(words))
        return flows.rebalance.fn(), calls, said

    return start


def test_a_run_that_starts_too_late_declines_and_tells(started):
    result, calls, said = started(timedelta(minutes=31))
    assert result["outcome"] == "declined"
    assert calls == []
    assert [words[0] for words in said] == ["late"]
    assert "late" in json.dumps(result)


def test_a_run_a_little_late_decides_on_data_as_of_now(started):
    result, calls, said = started(timedelta(minutes=29))
    assert result["outcome"] == "waited"
    assert calls == [True]  # on paper a scheduled run trades; no moment is given: the stage takes the present one
    assert said == []

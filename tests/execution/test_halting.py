"""Laws of the halt: whenever it comes, nothing is sent after it, what was sent is looked up, and nothing is lost."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.execution.engine import step
from policy.execution.records.halt import HaltFile
from tests.execution.simlab import chain, context

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def stages(tmp_path) -> list[str]:
    """Return the checkpoints that a live cycle passes, in order."""
    seen: list[str] = []
    sim = chain()
    assert step(context(tmp_path / "probe", sim, checkpoint=seen.append)).outcome == "traded"
    return list(dict.fromkeys(seen))


def grown(blocks: int = 4):
    """Return a chain old enough to be looked back on."""
    sim = chain()
    for _ in range(blocks):
        sim.mine()
    return sim


def sent(sim) -> int:
    return sim.world.clock.nonce


def test_a_live_cycle_refuses_and_a_dry_one_goes_on_and_says_so(tmp_path):
    halt = HaltFile(tmp_path / "halt.json")
    halt.stop(NOW, "a look at the  pools\n", "terminal")
    sim = chain()
    report = step(context(tmp_path, sim, halted=halt.told))
    assert report.outcome == "refused"
    assert [v.check for v in report.verdicts] == ["halted"]
    assert "2026-03-01 12:00 UTC (a look at the pools)" in report.why
    assert "foredrift resume" in report.why
    dry = step(context(tmp_path, sim, halted=halt.told, live=False))
    assert dry.outcome == "planned"
    assert [v.ok for v in dry.verdicts if v.check == "halted"] == [True]
    assert sent(sim) == 0
    halt.resume()
    assert step(context(tmp_path, sim, halted=halt.told)).outcome == "traded"


def test_a_halt_at_any_moment_of_a_cycle_stops_what_was_not_sent_and_loses_nothing(tmp_path):
    for at in stages(tmp_path):
        folder, sim = tmp_path / at, grown()
        halt = HaltFile(folder / "halt.json")
        first: list[int] = []

        def stopping(name, at=at, halt=halt, first=first, sim=sim):
            if name == at and not first:
                halt.stop(NOW, "now", "terminal")
                first.append(sent(sim))

        report = step(context(folder, sim, checkpoint=stopping, halted=halt.told))
        halted = [v for v in report.verdicts if v.check == "halted"]
        landed = sent(sim)
        assert landed in {0, 1}
        assert halted or landed == 1, (at, report.outcome, report.why)
        while_stopped = step(context(folder, sim, halted=halt.told))
        assert [v.check for v in while_stopped.verdicts if not v.ok][-1:] == ["halted"], (at, while_stopped.verdicts)
        assert sent(sim) == landed, at
        halt.resume()
        for _ in range(3):
            sim.mine()
            step(context(folder, sim, halted=halt.told))
        assert sent(sim) == 1, at  # traded once: neither lost nor doubled


def test_what_was_sent_before_the_halt_is_settled_during_it(tmp_path):
    sim = grown()
    halt = HaltFile(tmp_path / "halt.json")

    def killed(name):
        if name == "send":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(context(tmp_path, sim, checkpoint=killed, halted=halt.told))
    halt.stop(NOW, "", "terminal")
    assert step(context(tmp_path, sim, halted=halt.told)).outcome == "pending"
    for _ in range(3):
        sim.mine()
    report = step(context(tmp_path, sim, halted=halt.told))
    assert report.outcome == "refused"
    ctx = context(tmp_path, sim)
    assert ctx.journal.flights()[-1].state == "landed"
    assert ctx.audit.has("settlement", outcome="landed")


@given(st.binary(max_size=40))
def test_a_file_that_is_there_halts_whatever_it_says(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("halt") / "halt.json"
    path.write_bytes(data)
    assert HaltFile(path).told()
    assert HaltFile(path).stop(NOW, "again", "chat") == HaltFile(path).read()
    HaltFile(path).resume()
    assert HaltFile(path).told() is None


def test_it_is_whole_for_its_owner_only_and_the_first_reason_stands(tmp_path):
    halt = HaltFile(tmp_path / ".foredrift" / "halt.json")
    assert halt.told() is None
    halt.stop(NOW, "first", "terminal")
    assert halt.stop(NOW, "second", "chat").reason == "first"
    assert json.loads(halt.path.read_text())["by"] == "terminal"
    assert halt.path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(halt.path.parent) == ["halt.json"]
    halt.resume()
    halt.resume()
    assert halt.read() is None

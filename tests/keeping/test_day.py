"""Minutes of a kept vault: killed, its node away, its websocket silent; nothing is missed, doubled or left open."""

from __future__ import annotations

import pytest

from tests.keeping.day import day


@pytest.mark.chain
def test_a_kill_a_restart_and_a_stall_end_with_nothing_missed_doubled_or_left_open():
    found = day(0.2, kills=1, restarts=1, stalls=1, seed=1)
    assert (found["double_executions"], found["missed_triggers"], found["open_plans"]) == (0, 0, 0), found
    assert found["starts"] == 2
    assert found["executions"] >= 1
    assert found["stood_in"] >= 1  # the scheduled run, while the keeper was dead

"""A symbol never decides, and a sequencer feed has one judge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.evm import calldata, symbols
from lake.sequencer import Uptime, judge
from lake.sources.pools import describe_pool
from policy.execution.checks import guards, oracle_rules

FAULT = "set_fault(uint256,uint256,address,bytes)"
ZERO = "0x" + "0" * 40
TIMES = st.integers(0, 10_000)


@given(st.integers(-3, 3), TIMES, TIMES, st.integers(0, 5_000))
def test_guards_and_the_oracle_judge_a_sequencer_alike(answer, started, now, grace):
    found = judge(answer, started, now, grace)
    code = oracle_rules.sequencer_code(oracle_rules.Answer(1, answer, started, started), grace, now)
    verdict = guards.sequencer((answer == 0, started), now, grace)
    assert (found.uptime is Uptime.UP) == (code == oracle_rules.GOOD) == verdict.ok
    assert verdict.ok == (answer == 0 and started > 0 and now - started > grace)


def test_a_feed_that_never_started_is_refused_in_words():
    verdict = guards.sequencer((True, 0), 1_700_000_000, 3_600)
    assert not verdict.ok
    assert "startedAt is 0" in verdict.reason


@pytest.mark.chain
def test_a_symbol_of_32_bytes_or_none_at_all_stops_nothing(localnet):
    ref = localnet.world.pools["v3:LINK/USDC:3000"]
    link = localnet.world.token("LINK").address
    localnet.send("deployer", link, calldata("set_short_symbol(bool)", True))
    localnet.mine()
    feed = str(localnet.world.token("LINK").feed)  # a contract without a symbol
    assert symbols(localnet.rpc, [link, feed]) == ["LINK", feed]
    info = describe_pool(localnet.rpc, ref.address, ref.venue)
    assert (info.decimals0, info.decimals1)[info.quote] == 6

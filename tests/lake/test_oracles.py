"""Feed rounds: history by halving, phases of a proxy, rounds without data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import RpcError
from lake.evm import selector
from lake.rpc import FakeTransport, Rpc
from lake.sources.oracles import OracleSource, latest_round, rounds_between
from lake.store import Lake
from lake.universe import CHAINS

FEED = "0x" + "fe" * 20
T0 = 1_650_000_000
LATEST, GET = selector("latestRoundData()"), selector("getRoundData(uint80)")
PHASES, LAST = selector("phaseAggregators(uint16)"), selector("latestRound()")


def proxy(phases):
    """A node with one proxy: ``phases[p]`` lists (round, updated_at) of phase p + 1."""

    def word(phase, number, updated):
        full = phase << 64 | number
        return (
            "0x"
            + encode(
                ["uint80", "int256", "uint256", "uint256", "uint80"],
                [full, 100 * phase + number, updated, updated, full],
            ).hex()
        )

    def call(tx, _block):
        data = bytes.fromhex(tx["data"][2:])
        kind, args = data[:4], data[4:]
        if kind == LATEST:
            return word(len(phases), *phases[-1][-1])
        if kind == PHASES:
            (phase,) = decode(["uint16"], args)
            return (
                "0x" + encode(["address"], [f"0x{phase:040x}" if 1 <= phase <= len(phases) else "0x" + "0" * 40]).hex()
            )
        if kind == LAST:
            return "0x" + encode(["uint256"], [phases[int(tx["to"], 16) - 1][-1][0]]).hex()
        (full,) = decode(["uint80"], args)
        phase, number = full >> 64, full & (2**64 - 1)
        found = dict(phases[phase - 1]).get(number) if 1 <= phase <= len(phases) else None
        return RpcError("execution reverted: No data present", 3, "0x") if found is None else word(phase, number, found)

    return Rpc("http://node", transport=FakeTransport({"eth_call": call}), sleep=lambda _: None)


def at(seconds):
    return datetime.fromtimestamp(T0 + seconds, UTC)


@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=12), min_size=1, max_size=3),
    st.sets(st.integers(2, 11), max_size=3),
    st.integers(-10, 900),
    st.integers(0, 500),
)
def test_any_range_over_phases_equals_a_filter_of_everything(steps, holes, start, length):
    phases, now = [], T0
    for phase in steps:
        rounds = []
        for number, step in enumerate(phase, start=1):
            now += step
            if number not in holes or number == len(phase):
                rounds.append((number, now))
        phases.append(rounds)
    everything = [(p << 64 | n, t) for p, rounds in enumerate(phases, start=1) for n, t in rounds]
    wanted = [(i, t) for i, t in everything if T0 + start <= t < T0 + start + length]
    found = [(r.id, r.updated_at) for r in rounds_between(proxy(phases), FEED, at(start), at(start + length))]
    assert found == wanted


def test_rounds_that_never_completed_are_left_out():
    found = list(rounds_between(proxy([[(1, T0), (2, 0), (3, T0 + 9)]]), FEED, at(-1), at(100)))
    assert [r.id & 0xFF for r in found] == [1, 3]


def test_a_dead_node_is_an_error_not_a_hole():
    rpc = Rpc("http://node", transport=FakeTransport({}), sleep=lambda _: None)
    with pytest.raises(RpcError):
        list(rounds_between(rpc, FEED, at(0), at(1)))


@pytest.mark.chain
def test_history_of_a_real_feed(localnet, tmp_path):
    feed = localnet.world.tokens["ETH"].feed
    start = datetime.fromtimestamp(localnet.node.head().time + 1, UTC)
    posted = [1_500.0 + 7 * i for i in range(9)]
    times = [localnet.advance_prices({"ETH": p}, pools=False).time for p in posted]
    assert latest_round(localnet.rpc, feed).answer == round(posted[-1] * 1e8)
    localnet.mine(5)
    source = OracleSource(localnet.rpc, CHAINS[31337], feed, page=4)
    frames = list(source.collect(start, start + timedelta(hours=1)))
    rows = [r for f in frames for r in f.iter_rows(named=True)]
    assert [int(r["answer"]) for r in rows] == [round(p * 1e8) for p in posted]
    assert [r["updated_at"].timestamp() for r in rows] == times
    assert len(frames) > 1
    lake = Lake(str(tmp_path))
    assert sum(lake.write("oracle", f).added for f in frames) == 9
    part = list(source.collect(datetime.fromtimestamp(times[3], UTC), datetime.fromtimestamp(times[6], UTC)))
    assert [int(a) for f in part for a in f["answer"]] == [round(p * 1e8) for p in posted[3:6]]

"""The market left running: replays history on the clock, tells people where things are, keeps keys to itself."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.errors import DataError
from lake.evm import Call, read
from policy.localnet.accounts import dev_accounts
from policy.localnet.history import Tick, depths, ticks
from policy.localnet.serve import Running, run


@pytest.mark.chain
def test_history_is_replayed_block_by_block_until_it_is_stopped():
    begin = datetime(2022, 9, 1, tzinfo=UTC)
    prices = [1_500.0, 1_520.0, 1_485.0, 1_490.0]
    history = [Tick({"ETH": p}, 5.0 + i, begin + timedelta(hours=i)) for i, p in enumerate(prices)]
    stop, lines, seen = threading.Event(), [], {}

    def ready(net):
        seen["mine"], seen["heads"] = net.node.mine, []

        def mined(*args, **kwargs):
            head = seen["mine"](*args, **kwargs)
            seen["heads"].append(head)
            if len(seen["heads"]) == len(history):
                stop.set()
            return head

        net.node.mine = mined

    assert run(history, Running(port=0, every_s=0.05), extras=(), say=lines.append, stop=stop, ready=ready) == 4
    heads = seen["heads"]
    assert [h.time for h in heads[:3]] == [int((begin + timedelta(hours=i)).timestamp()) for i in (1, 2, 3)]
    assert [h.base_fee_wei for h in heads[:3]] == [6 * 10**9, 7 * 10**9, 8 * 10**9]
    assert heads[3].time == heads[2].time + 12  # history is over, the chain goes on
    text = "\n".join(lines)
    assert "v3:ETH/USDC:500" in text
    assert not any(a.key.hex() in text for a in dev_accounts().values())


@pytest.mark.chain
def test_without_further_words_it_holds_a_funded_vault():
    stop, lines, nav = threading.Event(), [], []

    def ready(net):
        vault = net.world.extras["vault"]
        nav.extend(read(net.rpc, [Call(vault, "totalAssets()", "uint256")])[0])
        stop.set()

    assert run(how=Running(port=0), say=lines.append, stop=stop, ready=ready) == 0
    assert nav[0] > 10**6 * 1_000
    assert any(line.startswith("  vault") for line in lines)


def test_ticks_are_bar_ends_with_the_gas_of_the_interval_that_ends_there():
    t0, hour = datetime(2022, 9, 1, tzinfo=UTC), timedelta(hours=1)
    bars = [("ETH", 0, 10.0), ("BTC", 1, 200.0), ("ETH", 1, 11.0), ("ETH", 3, 13.0), ("BTC", 3, 230.0)]
    prices = pl.DataFrame({"asset": [a for a, *_ in bars], "step": 3600, "ts": [t0 + h * hour for _, h, _ in bars],
                           "close": [c for *_, c in bars]})  # fmt: skip
    gas = pl.DataFrame({"available_at": [t0 + 2 * hour], "base_fee_gwei": [17.5]})
    found = list(ticks(prices, gas))
    assert [(t.at, dict(t.prices), t.gas_gwei) for t in found] == [
        (t0 + 2 * hour, {"ETH": 11.0, "BTC": 200.0}, 17.5),
        (t0 + 4 * hour, {"ETH": 13.0, "BTC": 230.0}, None),
    ]
    with pytest.raises(DataError, match="no prices"):
        list(ticks(prices.clear()))


def test_depths_are_the_newest_of_the_deepest_pool():
    t0, hour = datetime(2022, 9, 1, tzinfo=UTC), timedelta(hours=1)
    rows = [("a", 0, 9e6), ("a", 1, 2e6), ("b", 1, 3e6), ("c", 1, 5e6), ("d", 1, None)]
    state = pl.DataFrame({"pool": [p for p, *_ in rows], "ts": [t0 + h * hour for _, h, _ in rows],
                          "depth_1pct_usd": [d for *_, d in rows]})  # fmt: skip
    assert depths(state, {"a": "ETH", "b": "ETH", "c": "BTC", "d": "LINK"}) == {"ETH": 3e6, "BTC": 5e6}

"""The market left running: replays history on the clock, tells people where things are, keeps keys to itself."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from policy.execution.localnet.accounts import dev_accounts
from policy.execution.localnet.serve import Tick, run

pytestmark = pytest.mark.chain


def test_history_is_replayed_block_by_block_until_it_is_stopped():
    begin = datetime(2022, 9, 1, tzinfo=UTC)
    prices = [1_500.0, 1_520.0, 1_485.0, 1_490.0]
    history = [Tick({"ETH": p}, 5.0 + i, begin + timedelta(hours=i)) for i, p in enumerate(prices)]
    stop, lines, seen = threading.Event(), [], {}

    def ready(net):
        threading.Timer(0.5, stop.set).start()
        seen["mine"] = net.node.mine

        def mined(*args, **kwargs):
            head = seen["mine"](*args, **kwargs)
            seen.setdefault("heads", []).append(head)
            return head

        net.node.mine = mined

    assert run(history, port=0, every_s=0.05, say=lines.append, stop=stop, ready=ready) >= 4
    heads = seen["heads"]
    assert [h.time for h in heads[:3]] == [int((begin + timedelta(hours=i)).timestamp()) for i in (1, 2, 3)]
    assert [h.base_fee_wei for h in heads[:3]] == [6 * 10**9, 7 * 10**9, 8 * 10**9]
    assert heads[3].time == heads[2].time + 12  # history is over, the chain goes on
    text = "\n".join(lines)
    assert "v3:ETH/USDC:500" in text
    assert not any(a.key.hex() in text for a in dev_accounts().values())

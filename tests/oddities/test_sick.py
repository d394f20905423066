"""One of eight tokens is sick, in each of six ways: the rest trades as without it, and it rejoins when healed."""

from __future__ import annotations

import numpy as np
import pytest

from policy.execution.engine import step
from tests.chain_fixtures import fresh, into_the_hour
from tests.oddities import kit

pytestmark = pytest.mark.chain
PLACE = list(kit.TARGETS).index(kit.SICK)
OTHERS = [i for i in range(len(kit.TARGETS)) if i != PLACE]


@pytest.fixture(scope="module")
def shared():
    with kit.market() as net:
        yield net


@pytest.fixture
def net(shared):
    with fresh(shared, 4):
        yield shared


def violations(weights) -> int:
    """How many of the seven healthy tokens are outside their bands."""
    targets = np.array(list(kit.TARGETS.values())) / 10_000
    return int((np.abs(np.array(weights) - targets)[OTHERS] > kit.CAP).sum())


def acted(ctx):
    report = step(ctx)
    assert report.outcome == "traded", [v.reason for v in report.verdicts if not v.ok]
    return report


# the purchase of a rebasing token simulates well: only the round trip shows it
CASES = [(n, p) for n in kit.ILLNESSES for p in (True, False) if p or n != "rebasing shares"]


# what a simulation alone finds is the engine's own, whatever the adapter: two of them show it
EACH = [(a, n, p) for a in kit.WHOLE for n, p in CASES if p or a in {"reference", "safe"}]


@pytest.mark.parametrize(
    ("adapter", "name", "probed"), EACH, ids=[f"{a}, {n}, {'probed' if p else 'simulated'}" for a, n, p in EACH]
)
def test_the_other_seven_keep_their_bands_and_the_sick_one_rejoins(net, tmp_path, name, adapter, probed):
    illness = kit.ILLNESSES[name]
    into_the_hour(net, 60)
    ctx = kit.context(tmp_path, net, adapter, (kit.SICK,) if illness.unlisted else ())
    ctx = ctx if probed else kit.blind(ctx)
    illness.begin(net, ctx.vault_address)
    if illness.price and adapter == "reference":
        report = step(ctx)
        assert report.outcome in {"traded", "refused"}  # what the contract allows while one of its prices is bad
        if report.outcome == "refused":
            assert any("LINK" in v.reason for v in report.verdicts if not v.ok)
            return
    else:
        report = acted(ctx)
    link = net.world.token(kit.SICK).address
    told = report.json()["untradable"]
    assert [u["token"] for u in told] == [link]
    assert "LINK" in told[0]["reason"]
    assert report.settlement.deltas[link] == 0
    assert violations(report.weights_after) == 0
    illness.end(net)
    into_the_hour(net, 60)
    healed = kit.context(tmp_path, net, adapter)
    again = acted(healed if probed else kit.blind(healed))
    assert again.json()["untradable"] == []
    assert again.settlement.deltas[link] > 0
    assert abs(again.weights_after[PLACE] - 0.125) < 0.01
    assert violations(again.weights_after) == 0


def test_all_eight_healthy_trade_and_nothing_is_named(net, tmp_path):
    into_the_hour(net, 60)
    report = acted(kit.context(tmp_path, net, "reference"))
    assert report.json()["untradable"] == []
    assert violations(report.weights_after) == 0
    assert not [v for v in report.verdicts if v.check == "token_unproven"]

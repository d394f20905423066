"""How much cash each chain keeps: by its recorded flows where there are enough of them, and with the reason said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lake.errors import NotEnoughData
from lake.units import utc
from pipelines.vault_setup import cash_levels as module
from pipelines.vault_setup.cash_levels import AUTO_FLOOR, FLOW_DAYS, REFILL, cash_levels, fixed_levels, recorded_flows
from policy.chains.cash import CashCosts, chain_levels, demand_quantile, outlook
from policy.execution.base import Quote
from policy.execution.bridges.base import CashChange

AT = utc("2026-03-01")
NOW = int(AT.timestamp())
CASH = "0x" + "c" * 40
HOUR = 3_600
COSTS = [CashCosts(8.0, 20.0, 5e-4, 1e-9, 1e-4), CashCosts(5.0, 0.4, 5e-4, 5e-9, 1e-4)]


def fleet(moves, given=("auto", "auto"), held=(400_000, 600_000)):
    """Two opened chains with recorded ``moves`` of cash (6 decimals, one dollar each)."""
    ends = {}
    for chain_id, rows, usd in zip((1, 8453), moves, held, strict=True):
        token = SimpleNamespace(address=CASH, symbol="USDC", decimals=6)
        seen = SimpleNamespace(
            nav=usd * 10**6, tokens=(token,), holdings=(usd * 10**6,), quotes=(Quote(CASH, 10**8, 1, NOW),),
        )  # fmt: skip
        vault = SimpleNamespace(snapshot=lambda s=seen: s, cash_moves=lambda last, r=rows: r)
        node = SimpleNamespace(head=lambda: SimpleNamespace(number=1_000))
        ends[chain_id] = SimpleNamespace(
            vault=vault, node=node, cash=token, chain=SimpleNamespace(safe_blocks=2, chain_id=chain_id)
        )
    rows = [SimpleNamespace(id=c, min_cash_usd=g) for c, g in zip(ends, given, strict=True)]
    shared = SimpleNamespace(chains=rows, bridges=())
    return SimpleNamespace(
        fleet=SimpleNamespace(shared=shared, cash="USDC", members={}), context=SimpleNamespace(ends=ends)
    )


def flow(hours_ago: float, usd: float, kind: str = "") -> CashChange:
    kind = kind or ("deposit" if usd > 0 else "withdrawal")
    return CashChange(900, kind, round(usd * 1e6), NOW - int(hours_ago * HOUR))


def drawn(seed: int, n: int = 60):
    """Withdrawals of chain 1, deposits of 8453, one in about a day each over sixty days."""
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.uniform(1, 24 * 59, n))[::-1]
    return [
        [flow(h, -float(s)) for h, s in zip(hours, rng.lognormal(9, 0.6, n), strict=True)],
        [flow(h, float(s)) for h, s in zip(hours, rng.lognormal(9, 0.6, n), strict=True)],
    ]


def test_flows_are_summed_by_hour_and_chain_and_nothing_else_is_one():
    moves = [
        [flow(5.5, -100.0), flow(5.9, 40.0), flow(2.0, -7.0), flow(1.0, 900.0, "trade"), flow(3.0, 5.0, "gift")],
        [flow(0.1, 11.0), CashChange(3, "deposit", 5 * 10**6), flow(24 * FLOW_DAYS + 5, 1e6)],
    ]
    found = recorded_flows(fleet(moves), AT)
    assert found.shape == (6, 2), "from the hour of the oldest flow that counts to now"
    assert found[0, 0] == pytest.approx(-60.0)
    assert found[3, 0] == pytest.approx(-7.0)
    assert found[5, 1] == pytest.approx(11.0)
    assert found.sum() == pytest.approx(-56.0)
    assert recorded_flows(fleet([[], []]), AT).shape == (0, 2)


def test_with_too_few_withdrawals_the_floor_is_a_share_of_the_portfolio_and_says_so():
    opened = fleet([[flow(h, -100.0) for h in range(1, 6)], []])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_costs", lambda *_: (COSTS, 330_000.0, 2.0))
        found = cash_levels(opened, None, AT)
    assert [(v.low, v.goal) for v in found.values()] == [(AUTO_FLOOR * 1e6, REFILL * AUTO_FLOOR * 1e6)] * 2
    assert "5 withdrawals seen, 8 are needed" in found[1].why
    assert found == fixed_levels(opened, "5 withdrawals seen, 8 are needed")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_levels_are_the_panels_rule_on_the_recorded_flows(monkeypatch, seed):
    monkeypatch.setattr(module, "_costs", lambda *_: (COSTS, 330_000.0, 2.0))
    opened = fleet(drawn(seed))
    found = cash_levels(opened, None, AT)
    flows = recorded_flows(opened, AT)
    low, goal = chain_levels(flows, COSTS, 2.0, 330_000.0)
    assert [found[c].low for c in (1, 8453)] == pytest.approx(low)
    assert [found[c].goal for c in (1, 8453)] == pytest.approx(goal)
    assert found[1].low > found[8453].low > 0, "people withdraw on chain 1"
    assert all(v.goal >= v.low for v in found.values())
    seen = outlook(flows[:, 0], -flows[flows < 0])
    assert demand_quantile(seen, 2.0, 0.5) <= found[1].low <= demand_quantile(seen, 2.0, 0.995)
    assert "60 withdrawals here and 60 in all" in found[1].why


def test_a_set_number_stands_beside_an_automatic_one(monkeypatch):
    monkeypatch.setattr(module, "_costs", lambda *_: (COSTS, 330_000.0, 2.0))
    found = cash_levels(fleet(drawn(4), ("auto", 5_000.0)), None, AT)
    assert (found[8453].low, found[8453].goal, found[8453].why) == (5_000.0, 10_000.0, "min_cash_usd, as set")
    assert found[1].why.startswith("auto, from")
    both = cash_levels(fleet([[], []], (7.0, 5_000.0)), None, AT)
    assert [v.low for v in both.values()] == [7.0, 5_000.0]


def test_without_gas_and_prices_the_fixed_floor_stands_with_the_reason(monkeypatch):
    def nothing(*_):
        raise NotEnoughData("no gas before March")

    monkeypatch.setattr(module, "_costs", nothing)
    found = cash_levels(fleet(drawn(5)), None, AT)
    assert found[1].low == AUTO_FLOOR * 1e6
    assert "no gas before March" in found[1].why


def test_more_withdrawals_never_lower_the_level_of_their_chain(monkeypatch):
    monkeypatch.setattr(module, "_costs", lambda *_: (COSTS, 1e7, 2.0))
    rows = drawn(6)
    once = cash_levels(fleet(rows), None, AT)
    doubled = [[CashChange(m.block, m.kind, 2 * m.amount, m.time) for m in rows[0]], rows[1]]
    assert cash_levels(fleet(doubled), None, AT)[1].low > once[1].low

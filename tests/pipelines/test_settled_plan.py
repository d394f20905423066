"""What an executed plan cost, from the records alone; and the settings a local market prints for its vault."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError
from lake.store import Lake
from lake.tables import TABLES
from pipelines.demo.localnet import Serving, _later, _opening, targets_of, tick_at, toml_of
from pipelines.deployments import deployment
from pipelines.settings import Settings
from pipelines.settlements.settled_plan import WEI, distance, executions, fees_usd, figures, realised
from policy.execution.base import Plan
from policy.execution.records.journal import Attempt, Flight
from policy.localnet.portfolio import TARGETS

AT = datetime(2024, 3, 14, 15, tzinfo=UTC)
OWN = deployment(Settings(portfolio={"assets": ["ETH", "BTC"], "targets": [0.6, 0.4], "tolerance": [0.05, 0.1]}))


def plan(n: int, decision: str = "d1") -> Plan:
    return Plan(decision, "0xv", 1, n, 2**40, 0, (), bytes([n]) * 32, 100, "0xh")


def attempt(n: int) -> Attempt:
    return Attempt("plan", f"0x{n}", b"", n, 1, 1, 1, "public", 1)


def flight(n: int, state: str = "landed", tries: int = 1, decision: str = "d1", **context) -> Flight:
    return Flight(plan(n, decision), state, tuple(attempt(i) for i in range(tries)), context=context)


def hash_of(n: int) -> str:
    return "0x" + (bytes([n]) * 32).hex()


def decided(n: int, *, live: bool = True, **expected) -> dict:
    return {"event": "decision", "live": live, "plan_hash": hash_of(n), "decision_id": "d1", "expected": expected}


def settled(n: int, outcome: str = "landed", **settlement) -> dict:
    known = {"gas_cost_wei": "0", "nav_before": "0", "nav_after": "0"}
    return {
        "event": "settlement", "plan_hash": hash_of(n), "outcome": outcome, "ts": AT.isoformat(),
        "settlement": known | settlement,
    }  # fmt: skip


def test_only_what_landed_or_reverted_and_is_recorded_has_a_row():
    flights = [flight(1), flight(2, "void"), flight(3, "reverted"), flight(4), flight(5, "signed")]
    records = [decided(1), settled(1), decided(2), settled(2, "void"), decided(3), settled(3, "reverted"), decided(4)]
    found = executions(flights, records)
    assert [(e.flight.plan.nonce, e.outcome) for e in found] == [(1, "traded"), (3, "reverted")]
    assert found[0].at == AT


def test_a_dry_decision_and_a_settlement_that_says_otherwise_are_no_execution():
    assert executions([flight(1)], [decided(1, live=False), settled(1)]) == []
    assert executions([flight(1)], [decided(1), settled(1, "reverted")]) == []


def test_attempts_are_counted_over_all_plans_of_a_decision():
    flights = [flight(1, "void", tries=2), flight(2, tries=3), flight(3, tries=1, decision="d2")]
    records = [decided(2), settled(2), decided(3), settled(3)]
    assert [e.key for e in executions(flights, records)] == [("d1", 4), ("d2", 0)]


@given(
    before=st.integers(10**6, 10**15), lost_ppm=st.integers(-2_000, 20_000), gas=st.integers(0, 10**18),
    native=st.floats(1.0, 1e4), value=st.floats(0.0, 1e7), nav=st.floats(1e3, 1e9),
)  # fmt: skip
def test_loss_is_the_fall_of_nav_and_impact_what_fees_leave_of_it(before, lost_ppm, gas, native, value, nav):
    after = before - before * lost_ppm // 10**6
    records = [
        decided(1, value_usd=value, nav_usd=nav),
        settled(1, gas_cost_wei=str(gas), nav_before=str(before), nav_after=str(after)),
    ]
    [one] = executions([flight(1, native_usd=native)], records)
    found = realised(OWN, one)
    assert found["gas_usd"] == pytest.approx(gas / WEI * native)
    assert found["loss_usd"] == pytest.approx((before - after) / before * nav)
    fees = value * OWN.costs.fee_bps / 1e4
    assert fees_usd(OWN, one) == pytest.approx(fees)
    assert found["impact_usd"] == pytest.approx(max(found["loss_usd"] - fees, 0.0))


def test_a_reverted_plan_costs_gas_only_and_an_unknown_price_makes_no_cost_up():
    records = [decided(1, nav_usd=1e6), settled(1, "reverted", gas_cost_wei="5", nav_before="9", nav_after="9")]
    [one] = executions([flight(1, "reverted", native_usd=2_000.0)], records)
    assert set(realised(OWN, one)) == {"gas_usd"}
    [one] = executions([flight(1, "reverted")], records)
    assert realised(OWN, one) == {}


@given(weights=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2))
def test_drift_is_the_largest_deviation_in_its_own_tolerance(weights):
    found = distance(OWN, weights)
    assert found == pytest.approx(max(abs(weights[0] - 0.6) / 0.05, abs(weights[1] - 0.4) / 0.1))


def test_figures_to_watch_leave_out_what_a_vault_does_not_have():
    seen = {"base_fee_wei": str(25 * 10**9), "nav": "2000000", "loss_budget_left": "1000"}
    found = figures(OWN, {"snapshot": seen, "weights_before": [0.65, 0.35]})
    assert found == pytest.approx({"drift_distance": 1.0, "gas_gwei": 25.0, "loss_budget_left_bp": 5.0})
    empty = figures(OWN, {"snapshot": seen | {"nav": "0"}, "weights_before": []})
    assert empty == {"drift_distance": 0.0, "gas_gwei": 25.0}


@pytest.mark.parametrize(
    ("weights", "found"),
    [({"USDC": 0.2, "ETH": 0.8}, {"USDC": 2_000, "ETH": 8_000}), ({"ETH": 0.5, "BTC": 0.5}, TARGETS)],
)
def test_a_local_vault_has_the_portfolio_where_it_holds_dollars_else_an_example(weights, found):
    assert targets_of(weights) == found


def local_market() -> SimpleNamespace:
    def token(asset: str) -> SimpleNamespace:
        return SimpleNamespace(address=f"0xtoken{asset}", feed=f"0xfeed{asset}")

    pools = {
        "kept": SimpleNamespace(asset="ETH", quote="USDC", address="0xp1", venue="uniswap_v3", router="0xr"),
        "other": SimpleNamespace(asset="BTC", quote="USDC", address="0xp2", venue="uniswap_v2", router="0xr"),
    }
    extras = defaultdict(lambda: "0xextra", vault="0xvault")
    world = SimpleNamespace(extras=extras, pools=pools, token=token)
    keeper = SimpleNamespace(address="0xkeeper")
    return SimpleNamespace(chain_id=31_337, url="http://127.0.0.1:1", world=world, accounts={"keeper": keeper})


def test_the_printed_settings_are_those_of_the_market_and_hold_no_key():
    text = toml_of(local_market(), {"USDC": 4_000, "ETH": 6_000})
    made = tomllib.loads(text)
    assert made["chain"] == {"id": 31_337, "rpc_urls": ["http://127.0.0.1:1"], "history_id": 1}
    assert (made["vault"]["kind"], made["vault"]["address"]) == ("reference", "0xvault")
    assert set(made["vault"]["tokens"]) == {"USDC", "ETH"}
    assert [f["asset"] for f in made["sources"]["feeds"]] == ["USDC", "ETH"]
    assert [p["address"] for p in made["sources"]["pools"]] == ["0xp1"]
    assert "private" not in text.lower()


OPEN = {"ETH": 2_000.0, "BTC": 50_000.0}


@pytest.fixture
def lake(tmp_path):
    made = Lake(str(tmp_path / "lake"))
    times = [(i, AT + timedelta(hours=i), AT + timedelta(hours=i + 1)) for i in range(4)]
    prices = [("s", a, 3_600, ts, p, p + 9, p, p + i, known) for i, ts, known in times for a, p in OPEN.items()]
    names = ("source", "asset", "step", "ts", "open", "high", "low", "close", "available_at")
    types = TABLES["prices"].columns
    made.write("prices", pl.DataFrame(prices, schema={n: types[n] for n in names}, orient="row"))
    gas = [(c, ts, 10.0 + i + c, known) for i, ts, known in times for c in (1, 10)]
    names, types = ("chain_id", "ts", "base_fee_gwei", "available_at"), TABLES["gas"].columns
    made.write("gas", pl.DataFrame(gas, schema={n: types[n] for n in names}, orient="row"))
    return made


def test_a_local_market_opens_at_prices_that_were_known_then(lake):
    tick = tick_at(lake, AT + timedelta(hours=2), ["ETH"])
    assert tick.prices == {"ETH": 2_001.0}
    assert tick.gas_gwei == 12.0
    assert tick_at(lake, AT + timedelta(hours=2), ["ETH"], 10).gas_gwei == 21.0
    assert tick_at(lake, AT, ["ETH"]).prices == {}


def test_replay_goes_on_after_the_opening_with_the_gas_of_its_chain(lake):
    ticks = list(_later(lake, 10, AT + timedelta(hours=2), ["ETH"]))
    assert [t.prices["ETH"] for t in ticks] == [2_002.0, 2_003.0]
    assert [t.gas_gwei for t in ticks] == [22.0, 23.0]


def test_a_market_opens_at_the_newest_price_or_when_asked_and_needs_a_lake_to_replay(lake, tmp_path):
    assert _opening(lake, Serving()) == AT + timedelta(hours=4)
    assert _opening(lake, Serving(start="2024-03-14T16:00Z")) == AT + timedelta(hours=1)
    empty = Lake(str(tmp_path / "empty"))
    assert _opening(empty, Serving()) is None
    for how in (Serving(replay=True), replace(Serving(), start="2024-01-01")):
        with pytest.raises(ConfigError, match="need prices in the lake"):
            _opening(empty, how)

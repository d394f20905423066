"""Tables transfers and places, and what is told from them: written once however often, and every alarm made to fire."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import polars as pl
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from lake.errors import RpcError
from lake.store import Lake
from lake.units import utc
from pipelines.monitor import notify
from pipelines.scheduled.fleet_gauges import FleetGauges
from pipelines.settlements.fleet_rows import event_rows, look_id, write_places, write_transfers
from pipelines.stages import transfers as stage
from pipelines.vault_setup import fleet_health as health
from policy.execution.transfers.saga import SagaState
from tests.transfers.lab import Killed, made
from tests.transfers.two_chains import CHAINS
from tests.transfers.two_chains import START as BEGUN

AT = utc("2026-03-01T10:00")
NATIVES = dict.fromkeys(CHAINS, 2_000.0)


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


def rows(lake, name: str) -> list[dict]:
    return lake.scan(name).collect().to_dicts()


def is_settled(saga) -> bool:
    return saga.state is SagaState.SETTLED


def test_the_table_of_transfers_is_the_journal_whenever_it_was_written(tmp_path, lake):
    """Written after every look, with a kill in one and twice after each: the rows of one writing at the end."""
    lab = made(tmp_path, fee_pips=100)
    lab.plan(5_000)
    lab.kill = "signed deliver"
    for n in range(40):
        try:
            lab.look()
        except Killed:
            continue
        lab.world.mine()
        at = AT + timedelta(minutes=n)
        write_transfers(lab.fresh(), lake, at, NATIVES)
        assert write_transfers(lab.fresh(), lake, at + timedelta(seconds=9), NATIVES) == 0
        if is_settled(lab.fresh().log.sagas()[0]):
            break
    saga = lab.fresh().log.sagas()[0]
    assert is_settled(saga)
    found = lake.scan("transfers").sort("event_no").collect()
    assert found["event_no"].to_list() == list(range(saga.events))
    at_once = pl.DataFrame(event_rows(lab.fresh().log, AT), infer_schema_length=None)
    same = ["event_no", "event", "state", "amount_raw", "arrived_raw", "fee_raw", "leg", "tx_hash", "note"]
    assert found.select(same).equals(at_once.select(same))
    assert found["ts"].is_sorted(), "a row keeps the moment the lake learnt it"
    last = found.to_dicts()[-1]
    t = saga.transfer
    assert (last["state"], last["arrived_raw"]) == ("settled", str(saga.arrived))
    assert (last["usd"], last["fee_usd"]) == pytest.approx((t.amount / 1e6, saga.fee / 1e6))
    receipts = [lab.world.chains[CHAINS.index(a.chain_id)].receipt(a.tx_hash) for a in saga.attempts]
    spent = sum(r.gas_used * r.effective_gas_price_wei for r in receipts if r is not None)
    assert last["gas_usd"] == pytest.approx(spent / 1e18 * 2_000.0)
    assert found["usd"].null_count() == found.height - 1, "known once it is settled"


def test_gas_that_no_node_or_price_tells_is_unknown_and_never_zero(tmp_path, lake):
    lab = made(tmp_path)
    lab.plan()
    lab.until(is_settled)
    lab.faults.left["no receipt A"] = 99
    write_transfers(lab.fresh(), lake, AT, NATIVES)
    assert rows(lake, "transfers")[-1]["gas_usd"] is None
    other = Lake(str(tmp_path / "other"))
    lab.faults.left.clear()
    write_transfers(lab.fresh(), other, AT, {CHAINS[0]: 2_000.0})
    assert other.scan("transfers").sort("event_no").collect()["gas_usd"][-1] is None


def chain_row(chain: int, cash: float, floor: float = 5_000.0, **more) -> dict:
    return {
        "chain": chain, "deployment": f"fund-{chain}", "block": 7, "usd": cash + 100.0, "cash_usd": cash,
        "assets_usd": {"USDC": cash, "ETH": 100.0}, "floor_usd": floor, "goal_usd": 2 * floor, "floor_why": "as set",
        "sequencer": "", "gas_low": False, "gas_money_wei": str(10**18), "gas_needed_wei": str(10**16),
    } | more  # fmt: skip


def test_places_are_written_once_a_look_and_a_decision_keeps_its_own(lake):
    chains = [chain_row(1, 4_000.0), chain_row(8453, 9_000.0)]
    for _ in range(2):
        assert write_places(lake, chains, AT, "USDC", {1: 250.0}) == look_id(AT)
    placed = {"change_usd": {1: {"USDC": 300.0, "ETH": -300.0}}, "plans": {1: "plan-one", 8453: "plan-two"}}
    name = write_places(lake, chains, AT, "USDC", {}, placed)
    write_places(lake, [chain_row(1, 1.0), chain_row(8453, 9_000.0)], AT + timedelta(minutes=50), "USDC", {})
    found = lake.scan("places").collect()
    assert found.height == 8, "four rows of the hour's look, the later one standing, four of the decision"
    look = found.filter(pl.col("decision_id") == look_id(AT)).sort("chain_id", "asset").to_dicts()
    assert [(r["chain_id"], r["asset"], r["usd"], r["floor_usd"]) for r in look] == [
        (1, "ETH", 100.0, None), (1, "USDC", 1.0, 5_000.0),
        (8453, "ETH", 100.0, None), (8453, "USDC", 9_000.0, 5_000.0),
    ]  # fmt: skip
    kept = found.filter((pl.col("decision_id") == name) & (pl.col("chain_id") == 1)).sort("asset").to_dicts()
    assert [(r["asset"], r["change_usd"], r["plan_id"], r["cash"]) for r in kept] == [
        ("ETH", -300.0, "plan-one", False), ("USDC", 300.0, "plan-one", True),
    ]  # fmt: skip
    again = write_places(lake, chains, AT + timedelta(hours=1), "USDC", {}, placed)
    assert again == name, "a decision is named by its vaults' decisions"


def looks(*cash: float, step: timedelta = timedelta(hours=1), change: float = 0.0, plan: str = "p") -> pl.DataFrame:
    return pl.DataFrame([
        {"chain_id": 1, "ts": AT + n * step, "usd": c, "floor_usd": 5_000.0, "change_usd": change, "plan_id": plan}
        for n, c in enumerate(cash)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("cash", "hours"),
    [((9e3, 4e3, 3e3, 2e3), 2.0), ((4e3, 6e3), 0.0), ((4e3, 6e3, 4e3), 0.0), ((1.0,) * 9, 8.0), ((9e3,), 0.0)],
)
def test_cash_is_below_its_level_since_the_first_look_of_a_row_of_them(cash, hours):
    found = health.below_floor_s(looks(*cash), AT + timedelta(hours=len(cash) - 1))
    assert found == {1: hours * 3_600}


def test_a_sale_is_forced_where_it_landed_and_the_cash_lacked_before_it():
    landed = pl.DataFrame({"decision_id": ["p"], "status": ["landed"]})
    assert health.forced_sales(looks(6_000.0, change=1_500.0), landed) == 1
    assert health.forced_sales(looks(6_000.0, change=900.0), landed) == 0, "5,100 USD lay there already"
    assert health.forced_sales(looks(6_000.0, change=-1_500.0), landed) == 0, "cash was spent"
    assert health.forced_sales(looks(6_000.0, change=1_500.0, plan="void"), landed) == 0
    reverted = pl.DataFrame({"decision_id": ["p"], "status": ["reverted"]})
    assert health.forced_sales(looks(6_000.0, change=1_500.0), reverted) == 0


def test_the_cost_of_bridges_is_a_years_of_what_was_seen():
    def settled(days: float, fee: float, gas: float | None):
        return {"ts": AT - timedelta(days=days), "fee_usd": fee, "gas_usd": gas}

    found = pl.DataFrame([settled(73, 60.0, 30.0), settled(3, 10.0, None)])
    assert health.bridge_cost(found, AT, 1e6) == pytest.approx(1e4 * 100.0 / 1e6 * 5)
    short = pl.DataFrame([settled(1, 60.0, 40.0)])
    assert health.bridge_cost(short, AT, 1e6) == pytest.approx(1e4 * 100.0 / 1e6 * 365 / 30), "no year of one day"
    assert health.bridge_cost(found.clear(), AT, 1e6) is None


def fleet(lab):
    """The lab's chains as an opened fleet."""
    ctx = lab.fresh()
    members = {c: SimpleNamespace(portfolio=SimpleNamespace(assets=("USDC",)), name=f"fund-{c}") for c in ctx.ends}
    return SimpleNamespace(fleet=SimpleNamespace(members=members), context=ctx)


def with_end(opened, chain_id: int, **changes):
    ends = {c: replace(e, **changes) if c == chain_id else e for c, e in opened.context.ends.items()}
    opened.context = replace(opened.context, ends=ends)
    return opened


def report(opened, **more) -> dict:
    chains = [chain_row(c, 9_000.0) | health.chain_health(opened, c) for c in opened.context.ends]
    empty = {"in_transit": [], "transfers": [], "waiting": [], "mismatch": "", "mismatch_raw": "0", "forced_sales": 0}
    return empty | {"chains": chains, "oracle_gaps": health.oracle_gaps(opened), "bridge_cost_bp_year": None} | more


def metrics(found) -> str:
    registry = CollectorRegistry()
    FleetGauges(registry).update({**found, "chains": [{"below_floor_s": 0.0} | c for c in found["chains"]]})
    return generate_latest(registry).decode()


def test_nothing_is_told_while_all_is_well(tmp_path):
    found = report(fleet(made(tmp_path)))
    assert health.fleet_alarms(found) == []
    text = metrics(found)
    assert f'foredrift_sequencer_down{{chain="{CHAINS[0]}"}} 0.0' in text
    assert 'foredrift_oracle_gap_bps{asset="USDC",figure="gap"} 0.0' in text
    assert "foredrift_bridge_cost_bp_year NaN" in text


def test_a_sequencer_that_is_down_or_cannot_be_asked_is_told(tmp_path):
    def silent():
        raise RpcError("no answer")

    for words, said in ((lambda: "down for 900 s", "down for 900 s"), (silent, "cannot be read: no answer")):
        found = report(with_end(fleet(made(tmp_path)), CHAINS[1], sequencer=words))
        [(event, _, text)] = health.fleet_alarms(found)
        assert event == "sequencer"
        assert said in text
        assert f"chain {CHAINS[1]}" in text
        assert f'foredrift_sequencer_down{{chain="{CHAINS[1]}"}} 1.0' in metrics(found)


class Poor:
    """A node on whose chain the keeper has next to nothing."""

    def __init__(self, node) -> None:
        self.node = node

    def __getattr__(self, name):
        return getattr(self.node, name)

    def balance(self, sender: str) -> int:
        del sender
        return 1_000


def test_a_keeper_with_less_gas_money_than_a_delivery_needs_is_told_by_chain(tmp_path):
    lab = made(tmp_path)
    assert not any(c["gas_low"] for c in report(fleet(lab))["chains"])
    poor = Poor(lab.fresh().ends[CHAINS[1]].node)
    found = report(with_end(fleet(lab), CHAINS[1], node=poor))
    [(event, title, words)] = health.fleet_alarms(found)
    assert (event, str(CHAINS[1]) in title) == ("gas_low", True)
    assert "a delivery may need" in words
    assert f'foredrift_gas_money{{chain="{CHAINS[1]}",figure="held"}} 1e-15' in metrics(found)


def test_prices_that_differ_between_the_chains_are_told_beyond_what_may_differ(tmp_path):
    for price, alarms in ((10**8 + 400_000, 0), (10**8 + 600_000, 1), (10**8 - 600_000, 1)):
        lab = made(tmp_path)
        chain = lab.world.chains[1]
        token = lab.world.specs[1].tokens[0].address
        chain.set_world(replace(chain.world, prices={token: (price, BEGUN, 9)}))
        found = report(fleet(lab))
        said = health.fleet_alarms(found)
        assert [a[0] for a in said] == ["oracle_differs"] * alarms
        gap = 1e4 * abs(price - 10**8) / min(price, 10**8)
        assert found["oracle_gaps"][0]["gap_bps"] == pytest.approx(gap)
        assert 'figure="allowed"} 50.0' in metrics(found)


def test_cash_that_stays_low_is_told_after_six_hours_with_the_levels_reason(tmp_path):
    low = [chain_row(1, 3_000.0, below_floor_s=hours * 3_600.0, floor_why="auto, from 9") for hours in (5, 7)]
    opened = fleet(made(tmp_path))
    assert health.fleet_alarms(report(opened, chains=low[:1])) == []
    [(event, _, words)] = health.fleet_alarms(report(opened, chains=low[1:]))
    assert event == "cash_low"
    assert "3,000 USD for 7 h" in words
    assert "auto, from 9" in words
    assert 'foredrift_cash_below_floor_seconds{chain="1"} 25200.0' in metrics(report(opened, chains=low[1:]))
    advised = stage.fleet_advice(report(opened, chains=low[1:]))
    assert len(advised) == 1, "said once"


def test_forced_sales_bridge_cost_and_a_ledger_that_is_off_are_figures(tmp_path):
    found = report(fleet(made(tmp_path)), forced_sales=3, bridge_cost_bp_year=1.25, mismatch="off", mismatch_raw="-17")
    text = metrics(found)
    for line in ("forced_sales 3.0", "bridge_cost_bp_year 1.25", "ledger_mismatch_raw -17.0", "ledger_mismatch 1.0"):
        assert f"foredrift_{line}\n" in text


def test_a_port_that_somebody_changed_is_told_and_every_event_is_one_the_runbook_knows(tmp_path, monkeypatch):
    lab = made(tmp_path)
    chain = lab.world.chains[0]
    book = chain.world.bridges
    routes = {n: replace(r, recipient="0x" + "ee" * 20) for n, r in book.routes.items()}
    chain.set_world(replace(chain.world, bridges=replace(book, routes=routes)))
    lab.world.mine(4)
    plan = lab.plan()
    assert plan.verdicts
    told = []
    monkeypatch.setattr(notify, "notify", lambda event, title, body: told.append((event, body)) or True)
    low = report(fleet(lab), chains=[chain_row(1, 1.0, below_floor_s=9e4, sequencer="down", gas_low=True)])
    stage._announce([("stuck", "0x" + "1" * 64, "two deliveries failed")], low, plan)
    assert {e for e, _ in told} == {"route_mismatch", "cash_low", "gas_low", "sequencer", "transfer"}
    assert any("pays 0x" + "ee" * 20 in body for _, body in told)
    assert {e for e, _ in told} <= set(notify.EVENTS)

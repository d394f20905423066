"""A portfolio on two paper chains decided on as one: where it trades, what stops it, its record taken again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from lake.units import utc
from pipelines import flows
from pipelines.deployments import deployments
from pipelines.settings import load
from pipelines.stages import rebalance as stage
from pipelines.stages.exposures import chains_of
from pipelines.stages.transfers import listed
from pipelines.vault_setup.decider import decider
from pipelines.vault_setup.transfer_fleet import fleet_of
from pipelines.vault_setup.whole_cycle import run_whole
from pipelines.vault_setup.whole_look import look_at_whole
from pipelines.wiring import lake_of
from policy.execution.records.audit import Audit
from policy.execution.records.owner import owning
from policy.execution.vaults.simulated import adapter
from policy.strategies.replay import replay
from tests.pipelines.market import moment, project

TWO = """
[schedule]
live = true
[[chains]]
id = 1
min_cash_usd = 5_000
vault = { start = "targets" }
[[chains]]
id = 8453
history_id = 1
min_cash_usd = 5_000
vault = { start = [0.2, 0.6, 0.2] }
[[bridges]]
kind = "cctp"
from = 1
to = 8453
[[bridges]]
kind = "cctp"
from = 8453
to = 1
"""
USDC = ('assets = ["BTC", "ETH", "LINK"]', 'assets = ["USDC", "BTC", "ETH"]')
FIRST, SECOND = moment(50), moment(49)
SOON = (utc(FIRST) + timedelta(minutes=10)).isoformat()


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """The folder whose lake all projects of this file read."""
    return project(tmp_path_factory.mktemp("market")).root


def fund(lake, folder, extra: str = TWO):
    """A project on two paper chains beside the module's lake."""
    text = (lake / "foredrift.toml").read_text().replace(*USDC).replace("nav_usd = 250", 'name = "fund"\nnav_usd = 250')
    (folder / "foredrift.toml").write_text(text + f'[lake]\npath = "{lake / "lake.data"}"\n' + extra)
    return load(folder / "foredrift.toml")


def balances(settings):
    return {
        d.name: {k[:6]: v for k, v in adapter.load(d.path(d.vault.state))[0].world.balances.items()}
        for d in deployments(settings)
    }


def records(settings, event: str = "decision"):
    return {
        d.name: [r.body for r in Audit(d.audit).records() if r.body["event"] == event] for d in deployments(settings)
    }


@pytest.fixture(scope="module")
def stepped(lake, tmp_path_factory):
    """Two live cycles an hour apart; what each reported and what lay where after it."""
    settings = fund(lake, tmp_path_factory.mktemp("fund"))
    dry = stage.rebalance(settings, as_of=FIRST)
    untouched = not any(d.path(d.vault.state).exists() for d in deployments(settings))
    found, held = [], []
    for at in (FIRST, SOON, SECOND):
        found.append(stage.rebalance(settings, live=True, as_of=at))
        held.append(balances(settings))
    return SimpleNamespace(settings=settings, dry=dry, untouched=untouched, found=found, held=held)


def test_a_dry_run_shows_the_whole_and_writes_no_vault(stepped):
    whole = stepped.dry["portfolio"]
    assert stepped.untouched
    assert whole["nav_usd"] == pytest.approx(500_000, rel=1e-3)
    assert whole["weights"] == pytest.approx([0.267, 0.467, 0.267], abs=2e-3)
    assert {n: p["outcome"] for n, p in stepped.dry["parts"].items()} == {
        "fund": "waited", "fund-base": "planned",
    }  # fmt: skip
    assert "transfers" not in stepped.dry


def test_the_trade_is_made_where_it_costs_least_and_the_vault_on_target_is_left_alone(stepped):
    first = stepped.found[0]
    [trade] = first["portfolio"]["placement"]["trades"]
    assert trade["chain"] == 8453
    assert first["parts"]["fund-base"]["outcome"] == "traded"
    assert first["parts"]["fund"]["outcome"] == "waited"
    assert "chain 8453" in first["parts"]["fund"]["why"]
    sold = first["parts"]["fund-base"]
    assert sold["weights_after"][1] == pytest.approx(sold["weights_wanted"][1], abs=2e-4)
    wanted, before = first["portfolio"]["wanted"], first["portfolio"]["weights"]
    moved = (sold["weights_after"][1] - sold["weights_before"][1]) * 0.5
    assert moved == pytest.approx(wanted[1] - before[1], rel=0.02), "what the whole wanted, by one vault"


def test_an_epoch_is_decided_once_for_all_chains(stepped):
    again = stepped.found[1]
    assert "executed already" in again["portfolio"]["waits"]
    assert "chain 8453" in again["portfolio"]["waits"]
    assert stepped.held[1] == stepped.held[0]
    assert again["parts"]["fund-base"]["outcome"] == "done"
    assert again["parts"]["fund"]["outcome"] == "waited"


def test_every_record_gives_its_decision_and_its_placement_again(stepped):
    taken = [r for rows in records(stepped.settings).values() for r in rows]
    apart = [r for r in taken if "waits" in r["portfolio"]]
    whole = [r for r in taken if "waits" not in r["portfolio"]]
    assert len(apart) == 1
    assert len({json.dumps(r["portfolio"]["placement"]) for r in whole}) < len(whole), "both vaults keep the same one"
    for record in whole:
        assert replay(record).differs == ()
    forged = json.loads(json.dumps(next(r for r in whole if r["portfolio"]["placement"])))
    forged["portfolio"]["placement"]["trades"][0]["change_usd"][0] += 1.0
    assert replay(forged).differs == ("placement",)
    checked = stage.audit_replay(deployments(stepped.settings), None)
    assert (checked["same"], checked["older"]) == (checked["of"], 1)
    assert checked["of"] == len(whole)


def test_a_chain_that_cannot_be_decided_on_is_named_and_the_whole_waits(lake, tmp_path):
    settings = fund(lake, tmp_path)
    stage.rebalance(settings, live=True, as_of=moment(60))
    base = deployments(settings)[1]
    chain, spec = adapter.load(base.path(base.vault.state))
    chain.set_world(replace(chain.world, paused=True))
    adapter.save(base.path(base.vault.state), chain, spec)
    before = balances(settings)
    found = stage.rebalance(settings, live=True, as_of=moment(58))
    assert "chain 8453" in found["portfolio"]["waits"]
    assert found["parts"]["fund"]["outcome"] == "waited"
    assert found["parts"]["fund-base"]["outcome"] == "refused"
    assert balances(settings) == before


def test_each_vault_alone_where_the_settings_say_so(lake, tmp_path):
    settings = fund(lake, tmp_path, TWO + '[transfers]\nweights = "chain"\n')
    found = stage.rebalance(settings, live=True, as_of=FIRST, name="fund-base")
    assert "portfolio" not in found
    assert found["outcome"] == "traded"
    assert not deployments(settings)[0].path(deployments(settings)[0].vault.state).exists()
    assert all("portfolio" not in r for rows in records(settings).values() for r in rows)
    assert stage.decided_by(deployments(settings), deployments(settings)[1]) == "fund-base"


def test_a_corridor_that_is_too_narrow_is_refused_by_the_vault(lake, tmp_path):
    """The whole sells BTC where it is cheap to, on the chain that has too little of it for a vault of its own."""
    text = TWO.replace("[0.2, 0.6, 0.2]", "[0.4, 0.1, 0.5]").replace('start = "targets"', "start = [0.1, 0.8, 0.1]")
    for name, width, outcome in (("narrow", "0.0", "refused"), ("wide", "1.0", "planned")):
        (tmp_path / name).mkdir()
        row = text.replace("history_id = 1\n", f"history_id = 1\ncorridor = {width}\n")
        found = stage.rebalance(fund(lake, tmp_path / name, row), as_of=FIRST)
        assert [t["chain"] for t in found["portfolio"]["placement"]["trades"]] == [8453]
        part = found["parts"]["fund-base"]
        assert part["outcome"] == outcome
        assert ("progress" in {v["check"] for v in part["verdicts"] if not v["ok"]}) == (outcome == "refused")


def test_one_schedule_decides_and_the_others_decline(lake, tmp_path, monkeypatch):
    settings = fund(lake, tmp_path)
    monkeypatch.setattr(flows, "_settings", lambda: settings)
    monkeypatch.setattr(flows, "get_run_logger", lambda: SimpleNamespace(info=print, warning=print, error=print))
    monkeypatch.setattr(flows, "flow_run", SimpleNamespace(scheduled_start_time=None, id=None))
    monkeypatch.setattr(flows, "create_markdown_artifact", lambda *_, **__: None)
    monkeypatch.setattr(flows, "served", SimpleNamespace(name="fund-base"))
    assert "which the runs of fund decide on" in flows.rebalance.fn().message
    assert not (tmp_path / ".foredrift" / "transfers.jsonl").exists()
    seen = []
    given = stage.cycle_of
    monkeypatch.setattr(stage, "cycle_of", lambda p, d, at, **k: seen.append(given(p, d, utc(FIRST), **k)) or seen[-1])
    monkeypatch.setattr(flows, "served", SimpleNamespace(name="foredrift"))
    done = flows.rebalance.fn()
    assert done["outcome"] == seen[0]["parts"]["fund"]["outcome"]
    assert "transfers" in seen[0], "a scheduled run moves transfers on"
    assert {c["chain"] for c in seen[0]["transfers"]["chains"]} == {1, 8453}


def test_transfers_move_on_while_each_vault_is_kept_by_itself(lake, tmp_path, monkeypatch):
    settings = fund(lake, tmp_path, TWO + '[transfers]\nweights = "chain"\n')
    moved = []
    monkeypatch.setattr(flows, "_settings", lambda: settings)
    monkeypatch.setattr(flows, "get_run_logger", lambda: SimpleNamespace(info=print, warning=print, error=print))
    monkeypatch.setattr(flows, "flow_run", SimpleNamespace(scheduled_start_time=None, id=None))
    monkeypatch.setattr(flows, "served", SimpleNamespace(name="fund-base"))
    monkeypatch.setattr(stage, "move_on", lambda project, at: moved.append([d.name for d in project]))
    with owning(deployments(settings)[1].journal) as file:
        file.refresh(1)
        assert "keeper owns the vault" in flows.rebalance.fn().message
    assert moved == [["fund", "fund-base"]]


def test_targets_that_differ_between_the_vaults_are_no_portfolio(lake, tmp_path):
    settings = fund(lake, tmp_path)
    stage.rebalance(settings, live=True, as_of=moment(60))
    base = deployments(settings)[1]
    chain, spec = adapter.load(base.path(base.vault.state))
    chain.set_world(replace(chain.world, targets_bps=(5_000, 2_500, 2_500)))
    adapter.save(base.path(base.vault.state), chain, spec)
    cycle = run_whole(deployments(settings), utc(moment(57)), live=lambda _: False)
    assert "targets differ" in cycle.look.why
    assert listed(deployments(settings))["mismatch"] == ""


def test_chains_that_price_an_asset_apart_make_the_whole_wait(lake, tmp_path):
    settings = fund(lake, tmp_path)
    fleet = fleet_of(deployments(settings))
    choices = {c: decider(d, lake_of(settings), utc(FIRST)) for c, d in fleet.members.items()}
    far = choices[8453].market
    for factor, waits in ((1.004, False), (1.006, True)):
        market = replace(far, close=far.close * [1.0, factor, 1.0])
        given = {**choices, 8453: replace(choices[8453], market=market)}
        why = look_at_whole(fleet, given, lake_of(settings), utc(FIRST)).why
        assert ("BTC" in why and "on chain 8453" in why) == waits, why


def test_the_lake_keeps_where_it_lay_and_what_was_placed_and_status_says_whose_levels_they_are(stepped):
    places = lake_of(stepped.settings).scan("places").collect()
    decided = places.filter(pl.col("change_usd") != 0.0)
    [trade] = stepped.found[0]["portfolio"]["placement"]["trades"]
    first = decided.filter(pl.col("ts") == utc(FIRST))
    assert first["chain_id"].unique().to_list() == [8453]
    assert first["change_usd"].sum() == pytest.approx(0.0, abs=0.01)
    assert first.filter(pl.col("cash"))["change_usd"].item() == pytest.approx(trade["change_usd"][0])
    assert first["plan_id"].unique().to_list() == [stepped.found[0]["parts"]["fund-base"]["decision_id"]]
    landed = lake_of(stepped.settings).scan("executions").collect()["decision_id"].to_list()
    assert first["plan_id"][0] in landed
    whole = places.filter(pl.col("decision_id") == first["decision_id"][0])
    assert whole.height == 6, "two chains, three assets, each once"
    nav = stepped.found[0]["portfolio"]["nav_usd"]
    assert whole["usd"].sum() == pytest.approx(nav, rel=1e-3)
    project = deployments(stepped.settings)
    lay = chains_of(project[0], project, lake_of(stepped.settings), utc(SECOND))["history"]
    assert set(lay["usd"]) == {"1", "8453"}
    assert sum(v[lay["ts"].index(FIRST)] for v in lay["usd"].values()) == pytest.approx(nav, rel=1e-3)
    view = listed(deployments(stepped.settings))
    assert {c["floor_why"] for c in view["chains"]} == {"min_cash_usd, as set"}
    assert view["forced_sales"] == 0, "much more cash lay there than its level"


def test_an_automatic_level_of_the_last_look_is_what_status_shows(lake, tmp_path):
    settings = fund(lake, tmp_path, TWO.replace("min_cash_usd = 5_000\n", ""))
    stage.rebalance(settings, live=True, as_of=moment(30))
    shown = {c["chain"]: c for c in listed(deployments(settings))["chains"]}
    assert "0 withdrawals seen, 8 are needed" in shown[1]["floor_why"]
    assert shown[1]["floor_usd"] == pytest.approx(0.025 * 500_000, rel=0.01)
    lake_ = lake_of(settings)
    row = lake_.scan("places").filter(pl.col("cash") & (pl.col("chain_id") == 1)).sort("ts").collect().tail(1)
    later = row.with_columns(
        decision_id=pl.lit("look-later"), ts=pl.lit(utc(moment(20))), floor_usd=pl.lit(777.0),
        goal_usd=pl.lit(999.0), floor_why=pl.lit("auto, from 60 withdrawals here"),
    )  # fmt: skip
    lake_.write("places", later)
    shown = {c["chain"]: c for c in listed(deployments(settings))["chains"]}
    assert (shown[1]["floor_usd"], shown[1]["goal_usd"]) == (777.0, 999.0)
    assert shown[1]["floor_why"] == "auto, from 60 withdrawals here"
    assert "0 withdrawals" in shown[8453]["floor_why"]

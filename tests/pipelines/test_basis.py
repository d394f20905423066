"""What a decision rests on: every held series has its own age, holes shut their own asset, nobody believes a jump."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import polars as pl
import pytest

from lake.store import Lake
from lake.universe import OP_GAS_ORACLE
from pipelines.deployments import deployment
from pipelines.stages import rebalance as stage
from pipelines.vault_setup import paper
from pipelines.vault_setup.decider import decider
from pipelines.vault_setup.onchain import data_fee_of
from pipelines.wiring import lake_of
from tests.pipelines.market import END, START, project

TABLES = ("prices", "gas", "pool_state")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return project(tmp_path_factory.mktemp("basis"), "\n[mandate]\nmin_trade_usd = 1\n")


def changed(settings, folder, **changes):
    """The same project with a hard mandate, a vault that has drifted for 30 days, and a lake with ``changes``."""
    lake = Lake(str(folder / "lake"))
    for name in TABLES:
        rows = lake_of(settings).scan(name).collect()
        lake.write(name, changes.get(name, lambda r: r)(rows))
    vault = settings.vault.model_copy(
        update={"state": str(folder / "v.json"), "journal": str(folder / "j"), "audit": str(folder / "a.jsonl")}
    )
    portfolio = settings.portfolio.model_copy(update={"scenario": "hard", "tolerance": 0.004})
    place = settings.lake.model_copy(update={"path": str(folder / "lake")})
    made = settings.model_copy(update={"vault": vault, "portfolio": portfolio, "lake": place})
    stage.rebalance(made, live=True, as_of=(END - timedelta(days=30)).isoformat())
    return made


def run(settings, at=END, **more):
    return stage.rebalance(settings, as_of=at.isoformat(), **more)


def refused(report) -> dict[str, str]:
    return {v["check"]: v["reason"] for v in report["verdicts"] if not v["ok"]}


def until(asset, end):
    """Bars of ``asset`` end at ``end``."""
    return lambda rows: rows.filter((pl.col("asset") != asset) | (pl.col("ts") < end))


@pytest.mark.parametrize("asset", ["BTC", "LINK"])
def test_one_dead_series_among_live_ones_is_refused_by_name(settings, tmp_path, asset):
    mine = changed(settings, tmp_path, prices=until(asset, END - timedelta(days=7)))
    report = run(mine)
    assert report["outcome"] == "refused"
    assert f"price of {asset}" in refused(report)["data_stale"]
    assert "7 days" in refused(report)["data_stale"]
    assert report["oldest_input"]["name"] == asset
    whole = changed(settings, tmp_path / "whole")
    assert run(whole)["outcome"] == "planned"


def test_the_paper_oracle_is_as_old_as_its_bars(settings, tmp_path):
    dead = END - timedelta(days=7)
    mine = changed(settings, tmp_path, prices=until("LINK", dead))
    choice = decider(deployment(mine), lake_of(mine), END)
    _, vault = paper.open_vault(deployment(mine), choice.market)
    seen = {t.symbol: q for t, q in zip(vault.spec.tokens, vault.snapshot().quotes, strict=True)}
    assert seen["LINK"].updated_at == int(dead.timestamp())
    assert seen["BTC"].updated_at >= int((END - timedelta(hours=1)).timestamp()) - 12
    assert "LINK" in refused(run(mine))["oracle_stale"]
    again = seen["LINK"].round_id
    _, vault = paper.open_vault(deployment(mine), choice.market)
    later = {t.symbol: q for t, q in zip(vault.spec.tokens, vault.snapshot().quotes, strict=True)}
    assert later["LINK"].round_id <= again  # no new round without a new answer


def test_an_asset_without_the_bar_the_others_have_stays_and_the_others_trade(settings, tmp_path):
    mine = changed(settings, tmp_path, prices=until("ETH", END - timedelta(hours=2)))
    report = run(mine)
    assert report["outcome"] == "planned", report["verdicts"]
    before, wanted = (dict(zip(report["assets"], report[k], strict=True)) for k in ("weights_before", "weights_wanted"))
    assert wanted["ETH"] == before["ETH"]
    assert wanted["BTC"] != before["BTC"]
    assert any(v["check"] == "not_traded" and "ETH: no bar since" in v["reason"] for v in report["verdicts"])


def test_a_gap_in_recorded_gas_is_told_and_stops_nothing(settings, tmp_path):
    mine = changed(settings, tmp_path, gas=lambda r: r.filter(pl.col("ts") < END - timedelta(hours=40)))
    report = run(mine)
    assert report["outcome"] == "planned", report["verdicts"]
    (told,) = [v for v in report["verdicts"] if v["check"] == "data_carried"]
    assert told["ok"]
    assert "gas of chain 1" in told["reason"]
    assert "the last known value stands" in told["reason"]


@pytest.mark.parametrize("history", [None, 10, 1])
def test_a_roll_up_pays_for_its_data_at_its_settlement_chains_price_or_abstains(settings, tmp_path, history):
    """Base with its own gas or another roll-up's as its history is refused with the remedy; old gas of L1 too."""
    gas = lake_of(settings).scan("gas").collect()
    own = [gas.with_columns(chain_id=pl.lit(i, gas.schema["chain_id"])) for i in (8453, 10)]
    late = gas.filter(pl.col("ts") < END - timedelta(hours=40))
    mine = changed(settings, tmp_path, gas=lambda _: pl.concat([late, *own]))
    row = mine.chain.model_copy(update={"id": 8453, "history_id": history})
    found = refused(run(mine.model_copy(update={"chain": row})))
    if history == 1:
        assert "settlement_gas" not in found
        assert "gas of chain 1: nothing since" in found["data_stale"]
    else:
        assert "its data are paid for at ethereum's gas price" in found["settlement_gas"]
        assert "set history_id = 1" in found["settlement_gas"]


def test_an_op_stack_chains_own_contract_prices_the_bytes_of_a_transaction():
    asked = []
    rpc = SimpleNamespace(batch=lambda calls, **_: [asked.append(c) or "0x" + f"{7 * 10**13:064x}" for c in calls])
    assert data_fee_of(8453, rpc)(b"\x01" * 40) == 7 * 10**13
    [(_, [call, block])] = asked
    assert (call["to"], block) == (OP_GAS_ORACLE, "latest")
    assert "01" * 40 in call["data"]
    assert data_fee_of(1, rpc) is None
    assert data_fee_of(42161, rpc) is None


def test_a_pool_that_stopped_is_refused_by_name(settings, tmp_path):
    mine = changed(settings, tmp_path, pool_state=lambda r: r.filter(pl.col("ts") < END - timedelta(days=3)))
    assert "depth of pool" in refused(run(mine))["data_stale"]


def test_a_redenomination_is_refused_until_somebody_confirms_it(settings, tmp_path):
    from lake.plausibility import accept

    moment = END - timedelta(hours=30)
    prices = ("open", "high", "low", "close")

    def divided(rows):
        late = (pl.col("asset") == "LINK") & (pl.col("ts") >= moment)
        return rows.with_columns(pl.when(late).then(pl.col(c) / 100).otherwise(pl.col(c)).alias(c) for c in prices)

    mine = changed(settings, tmp_path, prices=divided)
    report = run(mine)
    assert report["outcome"] == "refused"
    assert "LINK" in refused(report)["price_jump"]
    assert "lake accept" in refused(report)["price_jump"]
    lake = lake_of(mine)
    (series,) = lake.scan("prices").filter(pl.col("asset") == "LINK").select("source", "step").unique().collect().rows()
    assert accept(lake, "prices", f"{series[0]}/LINK/{series[1]}", START, END, "redenominated 100 to 1") == 1
    assert "price_jump" not in refused(run(mine))


def test_gas_in_wei_is_refused(settings, tmp_path):
    def in_wei(rows):
        late = pl.col("ts") >= END - timedelta(hours=5)
        return rows.with_columns(
            base_fee_gwei=pl.when(late).then(pl.col("base_fee_gwei") * 1e9).otherwise("base_fee_gwei")
        )

    report = run(changed(settings, tmp_path, gas=in_wei))
    assert report["outcome"] == "refused"
    assert "gas_implausible" in refused(report)


def test_the_record_names_what_it_rests_on(settings, tmp_path):
    mine = changed(settings, tmp_path)
    report = run(mine, live=True)
    kinds = {(i["kind"], i["name"]) for i in report["data"]}
    assert {("price", a) for a in ("BTC", "ETH", "LINK")} <= kinds
    assert ("gas", "chain 1") in kinds
    assert any(kind == "depth" for kind, _ in kinds)
    assert report["oldest_input"] == report["data"][0]
    assert f"oldest input: {report['data'][0]['kind']} of" in stage.explain(mine, report["decision_id"])["text"]
    assert '"data":' in (tmp_path / "a.jsonl").read_text().replace('"data" :', '"data":')

"""The rebalance stage on the simulated vault: plan, execution, once per epoch, records that can be read back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lake.errors import ConfigError, DataError, NotEnoughData
from lake.units import utc
from pipelines.deployments import deployment, deployments
from pipelines.settings import load
from pipelines.stages import rebalance as stage
from pipelines.wiring import lake_of
from policy.execution.checks import guards
from policy.execution.records.audit import Audit
from tests.pipelines.market import moment, project


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return project(tmp_path_factory.mktemp("paper"), "\n[mandate]\nmin_trade_usd = 1\n")


def drifted(settings, tmp_path):
    """The same lake with a vault of its own that has drifted for 50 days."""
    vault = settings.vault.model_copy(
        update={
            "state": str(tmp_path / "vault.json"),
            "journal": str(tmp_path / "journal"),
            "audit": str(tmp_path / "audit.jsonl"),
        }
    )
    portfolio = settings.portfolio.model_copy(update={"scenario": "hard", "tolerance": 0.004})
    made = settings.model_copy(update={"vault": vault, "portfolio": portfolio})
    stage.rebalance(made, live=True, as_of=moment(24 * 30))
    return made


def test_a_dry_run_shows_the_plan_and_changes_nothing(settings, tmp_path):
    mine = drifted(settings, tmp_path)
    before = (tmp_path / "vault.json").read_text()
    shown = []
    result = stage.rebalance(mine, live=False, as_of=moment(0), on_plan=shown.append)
    assert result["outcome"] == "planned"
    assert shown[0]["legs"]
    assert (tmp_path / "vault.json").read_text() == before


def test_live_trades_once_an_epoch_and_the_weights_arrive(settings, tmp_path):
    mine = drifted(settings, tmp_path)
    first = stage.rebalance(mine, live=True, as_of=moment(0))
    assert first["outcome"] == "traded", first["verdicts"]
    again = stage.rebalance(mine, live=True, as_of=moment(0))
    assert again["outcome"] in {"done", "waited"}
    settled = first["settlement"]
    wanted = dict(zip(first["assets"], first["weights_wanted"], strict=True))
    for asset, bps in zip(first["assets"], settled["weights_after_bps"], strict=True):
        assert bps == pytest.approx(wanted[asset] * 10_000, abs=15)


def test_decision_execution_audit_and_explanation_agree(settings, tmp_path):
    mine = drifted(settings, tmp_path)
    done = stage.rebalance(mine, live=True, as_of=moment(0))
    lake = lake_of(mine)
    decisions = lake.scan("decisions").collect()
    row = decisions.filter(decisions["decision_id"] == done["decision_id"]).row(0, named=True)
    assert row["action"] == done["action"]
    assert json.loads(row["verdicts"]) == done["verdicts"]
    told = stage.explain(mine, done["decision_id"][:10])
    assert done["why"] in told["text"]
    assert "the trade costs" in told["text"]
    assert "  ok: what the trade saves and what it costs (benefit" in told["text"]
    assert "[profitable]" in told["text"]
    assert all(f"{asset} " in told["text"] for asset in done["assets"])  # every weight that moves is named
    assert stage.audit_verify(mine)["ok"]
    assert stage.audit_export(mine, tmp_path / "audit.parquet") == stage.audit_verify(mine)["records"]
    again = stage.audit_replay(deployments(mine), done["decision_id"])
    assert again["same"] == again["of"] > 0
    with pytest.raises(DataError, match="no decision feed is recorded"):
        stage.audit_replay(deployments(mine), "feed")


def test_stale_data_is_refused_with_what_to_do(settings, tmp_path):
    mine = drifted(settings, tmp_path)
    said = []
    for _ in range(2):
        with pytest.raises(NotEnoughData) as caught:
            stage.rebalance(mine)
        said.append("; ".join([str(caught.value), *caught.value.__notes__]))
        assert "foredrift ingest" in said[-1]
    kept = [r.body for r in Audit(deployments(mine)[0].audit).records() if r.body["event"] == "refusal"]
    assert kept
    assert len(kept) == len({r["decision_id"] for r in kept})  # once an epoch, however often it was tried
    assert {r["action"] for r in kept} == {"abstain"}
    assert kept[0]["why"] == said[0]
    assert [v["check"] for v in kept[0]["verdicts"]] == ["data_missing"]
    assert kept[0]["policy"] == mine.policy.kind
    assert stage.audit_verify(mine)["ok"]
    taken = stage.rebalance(mine, as_of=moment(0))
    assert taken["outcome"] in {"planned", "waited"}  # what follows is not in its way


def test_as_of_is_for_the_simulated_vault_only(tmp_path):
    file = tmp_path / "foredrift.toml"
    file.write_text("[vault]\nkind = 'reference'\n")
    with pytest.raises(ConfigError, match="simulated"):
        stage.rebalance(load(file), as_of="2024-01-01")


def test_without_forecasts_the_fallback_decides_and_says_why(settings):
    policy = settings.policy.model_copy(update={"kind": "predictive"})
    result = stage.rebalance(settings.model_copy(update={"policy": policy}), as_of=moment(0))
    assert "gas_band decides: no gas forecast" in result["note"]
    assert result["policy"] == "gas_band"


def test_an_execution_teaches_the_slippage_forecaster(settings, tmp_path):
    mine = drifted(settings, tmp_path)
    assert stage.rebalance(mine, live=True, as_of=moment(0))["outcome"] == "traded"
    row = lake_of(mine).scan("executions").collect().row(-1, named=True)
    realised, expected = json.loads(row["realised"]), json.loads(row["expected"])
    assert row["status"] == "landed"
    assert realised["impact_usd"] == pytest.approx(expected["impact_usd"], abs=max(1.0, 0.2 * realised["loss_usd"]))


def test_an_oracle_far_from_the_recorded_market_is_refused(settings, tmp_path):
    mine = drifted(settings, tmp_path)
    from pipelines.vault_setup import context, decider, paper

    choice = decider.decider(deployment(mine), lake_of(mine), decider.newest(lake_of(mine), utc(moment(0))))
    _, vault = paper.open_vault(deployment(mine), choice.market)
    snapshot = vault.snapshot()
    wrong = replace(choice, market=replace(choice.market, close=choice.market.close * 1.2))
    rules = {t.address: context.rule_of(mine, 90_000, t.symbol) for t in snapshot.tokens}
    fine = guards.oracles(snapshot, rules, context.view_of(choice, snapshot).evidence)
    bad = guards.oracles(snapshot, rules, context.view_of(wrong, snapshot).evidence)
    assert all(v.ok for v in fine)
    assert {v.check for v in bad if not v.ok} == {"oracle_deviates"}

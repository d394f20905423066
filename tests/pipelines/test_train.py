"""The life of a model on a real store: first champion, challenger, verdicts, by hand, failed retrains, forecasts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from lake.errors import ConfigError, ModelError, NotEnoughData
from lake.store import Lake
from lake.units import utc
from models.gas.family import GasFamily
from models.registry.promotion import Figure
from pipelines import wiring
from pipelines.deployments import deployment
from pipelines.experiments import model_lifecycle
from pipelines.scheduled.metrics import Metrics
from pipelines.settings import load
from pipelines.stages import forecast as forecasting
from pipelines.stages import train as training
from pipelines.stages.status import status
from tests.models.market import START, fill

pytestmark = pytest.mark.slow

BEGIN, END = START + timedelta(days=45), START + timedelta(days=80)
CONFIG = (
    '[portfolio]\nassets = ["ETH", "BTC"]\n[models]\nthreads = 1\n[compare]\nnav_usd = [100_000]\nbootstrap = 200\n'
)


def quick(settings):
    return replace(wiring.model_config(settings), rounds=10, paths=4, warmup_days=14)


@pytest.fixture(scope="module", autouse=True)
def _light_models():
    with pytest.MonkeyPatch.context() as patch:
        for module in (training, forecasting, model_lifecycle):
            patch.setattr(module, "model_config", quick)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    (root / "foredrift.toml").write_text(CONFIG)
    settings = load(root / "foredrift.toml")
    fill(Lake(str(root / "lake.data")), 90, season=0.6, noise=0.05)
    first = training.train(deployment(settings), ["gas"], BEGIN.isoformat(), END.isoformat())
    return settings, first


def versions(settings):
    return {v["version"]: v for v in model_lifecycle.report(deployment(settings))["versions"]}


def champion(settings):
    found = model_lifecycle.registry_of(settings).champion("gas")
    assert found is not None
    return found


def test_the_best_baseline_is_the_first_champion_and_the_model_is_judged_against_it(project):
    settings, first = project
    verdict = first.json["promotion"][0]
    decisions = model_lifecycle.report(deployment(settings))["decisions"]
    assert decisions[0]["decision"] == "first champion"
    assert versions(settings)["1"]["kind"] == "baseline"
    assert verdict["version"] == "2"
    assert verdict["decision"] in {"promoted", "kept as challenger"}
    assert decisions[1]["reason"] == verdict["reason"]
    json.dumps(first.json)


def test_the_run_explains_the_model(project):
    settings, _ = project
    registry = model_lifecycle.registry_of(settings)
    run = registry.mlf.get_run(registry.version("gas", "2").run_id)
    assert "summary/pinball/gas_24h" in run.data.metrics
    assert run.data.params["seed"] == "7"
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["data"][:36]
    top = {f.path for f in registry.mlf.list_artifacts(run.info.run_id)}
    assert {"scores.csv", "folds.csv", "importances.csv", "reliability.csv", "plots", "model", "decision.json"} <= top
    plots = {f.path for f in registry.mlf.list_artifacts(run.info.run_id, "plots")}
    assert plots == {"plots/importances.png", "plots/reliability.png", "plots/pinball.png"}
    files = {f.path for f in registry.mlf.list_artifacts(run.info.run_id, "model")}
    assert not [f for f in files if "pkl" in f or "pickle" in f]


def test_the_same_training_again_registers_nothing_new(project):
    settings, _ = project
    before = versions(settings)
    again = training.train(deployment(settings), ["gas"], BEGIN.isoformat(), END.isoformat())
    assert set(versions(settings)) == set(before)
    assert again.json["promotion"][0]["version"] == "2"


def test_a_registered_model_loads_as_it_was_and_altered_files_are_refused(project, tmp_path):
    settings, first = project
    registry = model_lifecycle.registry_of(settings)
    version = registry.version("gas", "2")
    model, inputs = registry.load(version, GasFamily(), quick(settings))
    known = first.result.records["gas"].known.tail(50)
    assert model.fitted.predict(known).equals(first.result.live["gas"].fitted.predict(known))
    assert inputs["single"].index(known).shape == (50,)
    import shutil

    from models.registry.registry import load as load_folder

    copy = tmp_path / "copy"
    shutil.copytree(registry.folder(version), copy)
    text = next(copy.glob("*.txt"))
    text.write_text(text.read_text() + " ")
    with pytest.raises(ModelError, match="do not match their manifest"):
        load_folder(copy, GasFamily(), quick(settings))


def test_by_hand_needs_a_reason_and_is_on_record(project):
    settings, _ = project
    with pytest.raises(ConfigError, match="reason"):
        model_lifecycle.promote(settings, "gas", "2", "  ")
    with pytest.raises(ConfigError, match="no version 99"):
        model_lifecycle.promote(settings, "gas", "99", "why not")
    with pytest.raises(ConfigError, match="no forecaster"):
        model_lifecycle.demote(settings, "tea", "why not")
    model_lifecycle.promote(settings, "gas", "2", "looks right")
    assert champion(settings).number == "2"
    model_lifecycle.demote(settings, "gas", "looked wrong")
    assert champion(settings).number == "1"
    with pytest.raises(ConfigError, match="champion already"):
        model_lifecycle.demote(settings, "gas", "again")
    said = [(d["decision"], d["reason"]) for d in model_lifecycle.report(deployment(settings))["decisions"]]
    assert ("promoted by hand", "looks right") in said
    assert ("demoted by hand", "looked wrong") in said


def test_a_challenger_that_loses_on_policy_cost_stays_one(project, monkeypatch):
    settings, _ = project
    dear = Figure(1.05, 1.03, 1.07, 5)
    monkeypatch.setattr(model_lifecycle, "cost_ratio", lambda *_: dear)
    monkeypatch.setattr(model_lifecycle.promotion, "skill_over", lambda *_: Figure(0.05, 0.03, 0.07, 5))
    before = champion(settings).number
    found = training.train(deployment(settings), ["gas"], BEGIN.isoformat(), (END + timedelta(days=2)).isoformat())
    verdict = found.json["promotion"][0]
    assert verdict["decision"] == "kept as challenger"
    assert "policy cost" in verdict["reason"]
    assert champion(settings).number == before
    assert versions(settings)[verdict["version"]]["alias"] == "challenger"


def test_a_crash_in_mid_training_alerts_keeps_the_champion_and_the_rerun_resumes(project, monkeypatch):
    settings, _ = project
    before, known = champion(settings), versions(settings)
    told, calls = [], []
    fit = GasFamily.fit

    def crashing(self, panel, cfg):
        calls.append(panel.height)
        if len(calls) == 2:
            raise ModelError("planted")
        return fit(self, panel, cfg)

    end = (END + timedelta(days=9)).isoformat()
    begin = (BEGIN + timedelta(days=1)).isoformat()
    with monkeypatch.context() as patch:
        patch.setattr(GasFamily, "fit", crashing)
        patch.setattr(training, "notify", lambda *a: told.append(a))
        with pytest.raises(ModelError, match="planted"):
            training.train(deployment(settings), ["gas"], begin, end)
    assert told[0][0] == "retrain_failed"
    assert champion(settings) == before
    assert versions(settings).keys() == known.keys()
    done = training.train(deployment(settings), ["gas"], begin, end)
    assert (done.result.folds["train_s"] == 0).sum() >= 1
    assert len(versions(settings)) == len(known) + 1


def test_forecasts_are_issued_once_and_never_rewritten(project):
    settings, _ = project
    at = (END + timedelta(hours=3, minutes=25)).isoformat()
    first = forecasting.forecast(deployment(settings), at)
    assert first["issued_at"].startswith((END + timedelta(hours=3)).isoformat())
    assert {r["target"] for r in first["rows"]} == {"gas", "gas_min"}
    model_lifecycle.promote(settings, "gas", "2", "another model")
    again = forecasting.forecast(deployment(settings), at)
    assert again == first
    later = forecasting.forecast(deployment(settings), (END + timedelta(days=9, hours=5)).isoformat())
    stored = Lake(str(settings.path("lake.data"))).scan("forecasts")
    last = stored.filter(pl.col("issued_at") == END + timedelta(days=9, hours=5)).collect()
    assert len(later["rows"]) == last.height
    report = status(settings, END + timedelta(days=10))
    [model] = report["models"]
    assert model["family"] == "gas"
    assert model["age_d"] == (END + timedelta(days=10) - utc(model["trained_until"])) / timedelta(days=1)
    shown = {(r["target"], r["horizon_h"]): r["coverage90"] for r in report["coverage"]}
    assert ("gas", 1) in shown
    assert all(0 <= share <= 1 for share in shown.values())
    metrics = Metrics()
    metrics.update(report)
    assert metrics.registry.get_sample_value("foredrift_model_age_days", {"family": "gas"}) == model["age_d"]
    label = {"target": "gas", "horizon_h": "1"}
    assert metrics.registry.get_sample_value("foredrift_forecast_coverage", label) == shown["gas", 1]
    model_lifecycle.demote(settings, "gas", "back")


def test_an_expired_champion_abstains_and_retraining_is_due(project):
    settings, _ = project
    short = settings.model_copy(update={"models": settings.models.model_copy(update={"expiry": "1d"})})
    found = forecasting.forecast(short, (END + timedelta(days=9, hours=7)).isoformat())
    assert found["abstained"] == len(found["rows"]) > 0
    assert all("expired" in r["abstains"] for r in found["rows"])
    due = model_lifecycle.due(short, END + timedelta(days=60))
    assert any("gas: champion expired" in r for r in due)
    assert any("gas: last trained" in r for r in due)
    assert any("drift: never trained" in r for r in due)


def test_a_champion_that_cannot_be_loaded_abstains_for_every_series_it_spoke_for(project, monkeypatch):
    settings, _ = project

    def broken(*_):
        raise ModelError("torn")

    monkeypatch.setattr(model_lifecycle.Registry, "load", broken)
    found = forecasting.forecast(deployment(settings), (END + timedelta(days=9, hours=9)).isoformat())
    assert found["abstained"] == len(found["rows"]) == 10
    assert all(r["mean"] is None and "torn" in r["abstains"] for r in found["rows"])


def test_without_a_champion_there_is_nothing_to_issue(tmp_path):
    (tmp_path / "foredrift.toml").write_text(CONFIG)
    with pytest.raises(NotEnoughData, match="foredrift train"):
        forecasting.forecast(deployment(load(tmp_path / "foredrift.toml")), END.isoformat())

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import ModelError, NotEnoughData
from lake.store import Lake
from models.config import ModelConfig
from models.evaluation.calibrate import Corrections
from models.forecast_schema import QUANTILE_COLUMNS
from models.gas.family import GasFamily, GasModel
from models.serving.live import LiveModel, issue, recent
from models.training.walkforward import train
from tests.models.market import START, fill, gas_rows

CFG = ModelConfig(("ETH", "BTC"), rounds=6, paths=4, refit_every_days=10, warmup_days=10)
SPAN = (START + timedelta(days=45), START + timedelta(days=65))


def copy(lake: Lake, root: str) -> Lake:
    other = Lake(root)
    for name in ("gas", "prices"):
        other.write(name, lake.scan(name).collect())
    return other


@pytest.fixture(scope="module")
def raw_market(tmp_path_factory) -> Lake:
    return fill(Lake(str(tmp_path_factory.mktemp("raw"))), 70)


@pytest.fixture(scope="module")
def trained(raw_market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    lake = copy(raw_market, str(folder / "lake"))
    return lake, train(lake, CFG, [GasFamily()], *SPAN, workdir=folder / "work")


def forecasts(lake: Lake) -> pl.DataFrame:
    return lake.scan("forecasts").collect().sort("target", "key", "issued_at", "horizon_s")


def test_every_hour_of_the_range_has_every_forecast_once(trained):
    lake, result = trained
    rows = forecasts(lake)
    hours = 24 * 20
    assert rows.group_by("target", "horizon_s").len()["len"].unique().to_list() == [hours]
    assert rows["issued_at"].min() == SPAN[0]
    assert rows["issued_at"].max() == SPAN[1] - timedelta(hours=1)
    assert not rows["abstain"].any()
    paths = lake.scan("paths").collect()
    assert paths.height == hours * CFG.paths
    assert set(rows["model_version"]) == set(paths["model_version"])
    assert result.folds.height >= 3
    assert (result.folds["known_at"] < result.folds["start"]).all()


def test_scores_name_every_baseline_and_the_model_beats_them_on_a_seasonal_market(trained):
    _, result = trained
    own = result.scores.filter(pl.col("model") == "lightgbm")
    assert set(result.scores["model"]) == {"lightgbm", "last", "seasonal", "ar"}
    assert own.filter((pl.col("target") == "gas") & (pl.col("horizon_s") >= 4 * 3600))["skill_last"].min() > 0.1
    assert own["coverage90"].min() > 0.75
    record = result.summary["forecasts"][0]
    assert {"target", "key", "horizon_s", "model", "pinball", "skill_vs", "coverage90"} <= set(record)


def test_a_rerun_changes_nothing_and_trains_nothing(trained, monkeypatch):
    lake, _ = trained
    before = forecasts(lake)
    monkeypatch.setattr(GasFamily, "fit", None)
    again = train(lake, CFG, [GasFamily()], *SPAN, live=False)
    assert forecasts(lake).equals(before)
    assert again.folds["skipped"].all()
    assert again.timing["train_s"] == 0.0


@pytest.mark.slow
def test_two_runs_agree_to_the_bit(raw_market, trained, tmp_path):
    lake = copy(raw_market, str(tmp_path))
    result = train(lake, CFG, [GasFamily()], *SPAN, live=False)
    assert forecasts(lake).equals(forecasts(trained[0]))
    assert result.scores.equals(trained[1].scores)


@dataclass(frozen=True, slots=True)
class Crashing(GasFamily):
    """Dies at the third fit, as a killed process would."""

    def fit(self, panel, cfg):
        CALLS.append(panel.height)
        if len(CALLS) == 3:
            raise KeyboardInterrupt
        return GasFamily.fit(self, panel, cfg)


CALLS: list[int] = []


@pytest.mark.slow
def test_a_crash_in_mid_training_leaves_no_rows_and_the_rerun_resumes(raw_market, trained, tmp_path):
    lake = copy(raw_market, str(tmp_path / "lake"))
    one = ModelConfig(**{**{f: getattr(CFG, f) for f in CFG.names()}, "threads": 1})
    CALLS.clear()
    with pytest.raises(KeyboardInterrupt):
        train(lake, one, [Crashing()], *SPAN, workdir=tmp_path / "work", live=False)
    assert lake.version("forecasts") == -1
    saved = len(list((tmp_path / "work" / "gas").glob("*.parquet")))
    assert saved >= 2
    result = train(lake, one, [GasFamily()], *SPAN, workdir=tmp_path / "work", live=False)
    assert (result.folds["train_s"] == 0).sum() == saved
    assert forecasts(lake).equals(forecasts(trained[0]))


@pytest.mark.slow
def test_no_forecast_depends_on_anything_after_it(raw_market, trained, tmp_path):
    cut = SPAN[0] + timedelta(days=9)
    lake = Lake(str(tmp_path))
    for name, column in (("gas", "base_fee_gwei"), ("prices", "volume")):
        late = pl.col("available_at") > cut
        changed = pl.when(late).then(pl.col(column) * 3).otherwise(pl.col(column)).alias(column)
        lake.write(name, raw_market.scan(name).with_columns(changed).collect())
    train(lake, CFG, [GasFamily()], *SPAN, live=False)
    past = pl.col("issued_at") <= cut
    for table in ("forecasts", "paths"):
        keys = ["issued_at", *(["path"] if table == "paths" else ["target", "horizon_s"])]
        a, b = (x.scan(table).filter(past).sort(keys).drop("model_version").collect() for x in (lake, trained[0]))
        assert a.equals(b), table
    late_rows = forecasts(lake).filter(~past)
    assert not late_rows.drop("model_version").equals(forecasts(trained[0]).filter(~past).drop("model_version"))


@pytest.mark.slow
def test_a_longer_range_keeps_what_was_issued(raw_market, tmp_path):
    lake = copy(raw_market, str(tmp_path / "lake"))
    half = SPAN[0] + timedelta(days=7)
    train(lake, CFG, [GasFamily()], SPAN[0], half, workdir=tmp_path / "w", live=False)
    first = forecasts(lake)
    train(lake, CFG, [GasFamily()], *SPAN, workdir=tmp_path / "w", live=False)
    rows = forecasts(lake)
    assert rows.filter(pl.col("issued_at") < half).equals(first)
    assert rows["issued_at"].max() == SPAN[1] - timedelta(hours=1)


def test_no_data_and_too_little_data_are_said_plainly(lake, tmp_path):
    with pytest.raises(NotEnoughData, match="import"):
        train(lake, CFG, [GasFamily()], *SPAN)
    short = fill(Lake(str(tmp_path)), 15)
    with pytest.raises(NotEnoughData, match="21 days"):
        train(short, CFG, [GasFamily()], START + timedelta(days=10), START + timedelta(days=15))


def test_a_family_whose_history_is_full_of_holes_is_skipped_with_the_reason(lake):
    lake.write("gas", gas_rows(60).filter(pl.col("ts").dt.hour() < 2))
    with pytest.raises(NotEnoughData, match="known outcomes"):
        train(lake, CFG, [GasFamily()], SPAN[0], SPAN[1])


def test_live_forecasts_equal_what_the_model_says(trained):
    lake, result = trained
    live = result.live["gas"]
    at = START + timedelta(days=69, minutes=20)
    view = recent(lake, at)
    rows = issue(view, CFG, result.live, at)
    assert rows["issued_at"].unique().to_list() == [START + timedelta(days=69)]
    assert rows.height == 10
    assert not rows["abstain"].any()
    panel = live.family.build(lake, CFG, START + timedelta(days=69), START + timedelta(days=69, hours=1))
    plain = live.corrections.apply(live.fitted.forecasts(panel), live.family.targets).frame()
    np.testing.assert_allclose(rows.select(QUANTILE_COLUMNS), plain.select(QUANTILE_COLUMNS), rtol=1e-9)
    lake.write("forecasts", rows)  # fits the table


def test_a_live_forecast_without_recent_gas_abstains_with_a_reason(trained):
    lake, result = trained
    at = START + timedelta(days=75)  # the feed died five days before
    rows = issue(recent(lake, at), CFG, result.live, at)
    assert rows.height == 10
    assert rows["abstain"].all()
    assert rows["reason"].str.contains("no value of 1").all()
    assert rows["mean"].null_count() == 10
    lake.write("forecasts", rows)


def test_a_model_that_does_not_fit_its_input_abstains(trained):
    lake, result = trained
    model = result.live["gas"]
    wrong = GasModel(type(model.fitted.bundle)("gas", "old", ("no_such_feature",), {}, model.fitted.bundle.extras))
    at = START + timedelta(days=69)
    rows = issue(lake, CFG, {"gas": LiveModel(model.family, wrong, model.corrections, model.trained_at)}, at)
    assert rows["abstain"].all()
    assert rows["reason"].str.contains("does not fit").all()


def test_a_live_model_survives_a_restart(trained, tmp_path):
    lake, result = trained
    model = result.live["gas"]
    model.save(tmp_path)
    again = LiveModel.load(tmp_path, GasFamily(), GasModel.load(tmp_path))
    at = START + timedelta(days=69)
    assert issue(lake, CFG, {"gas": again}, at).equals(issue(lake, CFG, {"gas": model}, at))
    (tmp_path / "calibration.json").unlink()
    with pytest.raises(ModelError, match="no calibration"):
        LiveModel.load(tmp_path, GasFamily(), model.fitted)


def test_without_corrections_nothing_is_claimed_for_silence(trained):
    lake, result = trained
    bare = LiveModel(GasFamily(), result.live["gas"].fitted, Corrections({}), SPAN[1])
    assert issue(lake, CFG, {"gas": bare}, START + timedelta(days=75)).is_empty()


def test_progress_counts_every_fold(raw_market, tmp_path):
    lake = copy(raw_market, str(tmp_path))
    seen = []
    train(lake, CFG, [GasFamily()], SPAN[0], SPAN[0] + timedelta(days=5), lambda *a: seen.append(a), live=False)
    assert seen == [("gas", k + 1, len(seen)) for k in range(len(seen))]

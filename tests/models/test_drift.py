from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import NotEnoughData
from lake.store import Lake
from models.base import label
from models.config import ModelConfig
from models.drift.family import DriftFamily
from models.drift.fitted import DriftFitted
from models.evaluation.labels import hide_unknown
from models.evaluation.scores import losses
from models.forecast_schema import QUANTILE_COLUMNS
from tests.models.drift_market import ASSETS, START, bars, garch, noise

FAMILY = DriftFamily()
CFG = ModelConfig(ASSETS, tolerance=dict.fromkeys(ASSETS, 0.01), rounds=40)


def split(lake: Lake, days: int, known: int, cfg: ModelConfig = CFG) -> tuple[DriftFitted, pl.DataFrame, pl.DataFrame]:
    """A model trained on what was known after ``known`` days, the past panel and the panel after it."""
    panel = FAMILY.build(lake, cfg, START, START + timedelta(days=days))
    at = START + timedelta(days=known)
    past = hide_unknown(panel.filter(pl.col("ts") < at), at)
    return FAMILY.fit(past, cfg), past, panel.filter(pl.col("ts") >= at)


def skill(model: DriftFitted, past: pl.DataFrame, ahead: pl.DataFrame, base: str, target: str, horizon_h: int) -> float:
    outcomes = FAMILY.outcomes(ahead, CFG)
    specs = tuple(s for s in FAMILY.targets if s.name == target)
    here = pl.col("horizon_s") == horizon_h * 3600
    own = losses(model.predict(ahead), outcomes, specs).filter(here)["loss"].sum()
    other = FAMILY.baselines(CFG)[base].fit(past).predict(ahead)
    return 1.0 - own / losses(other, outcomes, specs).filter(here)["loss"].sum()


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> tuple[Lake, dict[str, np.ndarray], dict[str, np.ndarray]]:
    lake = Lake(str(tmp_path_factory.mktemp("garch")))
    returns, truth = garch(200, 21, season=0.4)
    lake.write("prices", bars(returns))
    return lake, returns, truth


@pytest.fixture(scope="module")
def trained(market) -> tuple[DriftFitted, pl.DataFrame, pl.DataFrame]:
    return split(market[0], 200, 130)


def test_the_volatility_of_a_garch_market_is_found(market, trained) -> None:
    _, _, truth = market
    model, past, ahead = trained
    rows = model.predict(ahead).filter((pl.col("target") == "return") & (pl.col("horizon_s") == 3600))
    for asset in ASSETS:
        mine = rows.filter(pl.col("key") == asset).sort("issued_at")
        hours = ((mine["issued_at"] - START).dt.total_hours()).to_numpy()
        inside = hours < len(truth[asset])  # bar i covers the hour after START + i
        width = (mine["q95"] - mine["q05"]).to_numpy()[inside]
        actual = truth[asset][hours[inside]] * 2 * 1.645
        assert np.corrcoef(np.log(width), np.log(actual))[0, 1] > 0.8
        assert np.median(width / actual) == pytest.approx(1.0, abs=0.08)
    assert skill(model, past, ahead, "ar", "return", 1) > 0.01
    assert skill(model, past, ahead, "ewma94", "return", 1) > 0.01
    assert skill(model, past, ahead, "ewma_empirical", "return", 1) > 0.01
    assert skill(model, past, ahead, "last", "return", 4) > 0.02


def test_ninety_per_cent_intervals_hold_ninety_per_cent(trained) -> None:
    model, _, ahead = trained
    specs = tuple(s for s in FAMILY.targets if s.score == "pinball")
    scored = losses(model.predict(ahead), FAMILY.outcomes(ahead, CFG), specs)
    coverage = scored.group_by("target", "horizon_s").agg(pl.col("inside").mean())
    for target, horizon_s, inside in coverage.iter_rows():
        slack = 0.03 if horizon_s <= 14_400 else 0.07  # 70 days hold few independent days
        assert inside == pytest.approx(0.9, abs=slack), (target, horizon_s)


def test_noise_of_constant_volatility_has_no_mean_and_no_skill(lake: Lake) -> None:
    lake.write("prices", bars(noise(150, 31)))
    model, past, ahead = split(lake, 150, 100)
    assert all(m.location.trust < 0.2 for m in model.moves.values())
    assert sum(m.location.trust == 0.0 for m in model.moves.values()) >= 6
    for target in ("return", "drift"):
        assert abs(skill(model, past, ahead, "last", target, 1)) < 0.015


def test_exit_probabilities_are_those_of_simulated_portfolios(lake: Lake) -> None:
    """Constant volatility: the average forecast equals the frequency over many simulated weeks."""
    lake.write("prices", bars(noise(120, 32)))
    model, _, ahead = split(lake, 120, 80)
    rows = model.predict(ahead).filter(pl.col("target") == "band_exit")
    rng = np.random.default_rng(4)
    r = 0.01 * rng.standard_normal((20_000, 24, 3))
    grown = np.exp(np.cumsum(r, axis=1)) / 3
    weights = grown / grown.sum(axis=2, keepdims=True)
    out = np.abs(weights - 1 / 3) > 0.01
    for h in (1, 4, 12, 24):
        truth = out[:, :h].any(axis=1).mean()
        got = rows.filter(pl.col("horizon_s") == h * 3600)["mean"].mean()
        assert got == pytest.approx(truth, abs=0.03), h


def test_covariances_are_those_of_the_market(market, trained) -> None:
    _, returns, truth = market
    model, _, ahead = trained
    rows = model.predict(ahead).filter(pl.col("target") == "covariance")
    assert set(rows["key"]) == {f"{a}|{b}" for a in ASSETS for b in ASSETS if a <= b}
    assert rows["q50"].null_count() == rows.height
    begin = 130 * 24
    for key in ("AAA|AAA", "AAA|BBB"):
        a, b = key.split("|")
        realised = (returns[a][begin:] * returns[b][begin:]).mean()
        assert rows.filter(pl.col("key") == key)["mean"].mean() == pytest.approx(realised, rel=0.35)
    days = rows.filter(pl.col("key") == "AAA|BBB")["issued_at"]
    assert (days.dt.hour() % 4 == 0).all()
    assert truth["AAA"].min() > 0


def test_labels_are_what_came_after(market) -> None:
    lake, returns, _ = market
    hour = 24 * 60
    at = START + timedelta(hours=hour)
    panel = FAMILY.build(lake, CFG, at, at + timedelta(hours=1))
    row = panel.filter(pl.col("key") == "BBB")
    growth = np.exp(np.cumsum([[returns[a][hour + k] for a in ASSETS] for k in range(12)], axis=0))
    assert row[label("return", 12 * 3600)].item() == pytest.approx(np.log(growth[11, 1]), abs=1e-9)
    weights = growth / growth.sum(axis=1, keepdims=True)
    drift = np.log(weights[:, 1] * 3)
    assert row[label("drift", 12 * 3600)].item() == pytest.approx(drift[11], abs=1e-9)
    left = float((np.abs(weights[:4, 1] - 1 / 3) > 0.01).any())
    assert row[label("band_exit", 4 * 3600)].item() == left
    assert row[label("up", 12 * 3600)].item() == pytest.approx(drift.max(), abs=1e-9)


def test_the_panel_at_t_does_not_depend_on_what_follows(market, tmp_path) -> None:
    lake, returns, _ = market
    cut = START + timedelta(days=100)
    rows = bars(returns).filter(pl.col("available_at") <= cut)
    early = Lake(str(tmp_path / "early"))
    early.write("prices", rows)
    span = (cut - timedelta(hours=8), cut + timedelta(hours=1))
    a, b = FAMILY.build(lake, CFG, *span), FAMILY.build(early, CFG, *span)
    features = [c for c in a.columns if "|" not in c]
    assert a.select(features).equals(b.select(features))
    last = b.filter((pl.col("ts") == cut) & (pl.col("key") == "AAA"))
    assert last[label("return", 3600)].item() is None


def test_a_saved_model_forecasts_the_same(trained, tmp_path) -> None:
    model, _, ahead = trained
    model.save(tmp_path / "model")
    back = DriftFitted.load(tmp_path / "model")
    rows = ahead.head(200)
    assert back.predict(rows).equals(model.predict(rows))
    assert not list((tmp_path / "model").glob("*.pkl"))
    gains = model.importances()
    sums = gains.group_by("target", "horizon_s").agg(pl.col("gain").sum())["gain"]
    assert all(s == pytest.approx(1.0) or s == 0.0 for s in sums)  # a booster that never split has no gain
    assert sums.sum() >= 4


def test_quantiles_never_cross_and_other_bands_only_change_exits(trained) -> None:
    model, _, ahead = trained
    rows = model.predict(ahead.head(400))
    q = rows.drop_nulls("q50").select(QUANTILE_COLUMNS).to_numpy()
    assert (np.diff(q, axis=1) >= 0).all()
    wide = model.with_tolerance(dict.fromkeys(ASSETS, 0.02)).predict(ahead.head(400))
    exits = pl.col("target") == "band_exit"
    assert rows.filter(~exits).equals(wide.filter(~exits))
    assert (wide.filter(exits)["mean"] <= rows.filter(exits)["mean"]).all()


def test_two_assets_without_ranges_or_volume(lake: Lake) -> None:
    two = ("AAA", "BBB")
    cfg = ModelConfig(two, rounds=10)
    lake.write("prices", bars(noise(40, 33, assets=two), ranges=False))
    model, _, ahead = split(lake, 40, 30, cfg)
    rows = model.predict(ahead)
    assert set(rows["target"]) == {"return", "drift", "band_exit", "covariance"}
    assert rows["mean"].is_finite().all()


def test_cash_without_prices_drifts_against_the_rest(lake: Lake) -> None:
    cfg = ModelConfig(("AAA", "USDC"), rounds=10)
    lake.write("prices", bars(noise(40, 34, assets=("AAA",))))
    assert FAMILY.keys(lake, cfg) == ["AAA", "USDC"]
    model, _, ahead = split(lake, 40, 30, cfg)
    rows = model.predict(ahead)
    drift = rows.filter((pl.col("target") == "drift") & (pl.col("horizon_s") == 3600))
    assert set(drift["key"]) == {"AAA", "USDC"}
    assert (drift["q95"] > 0.005).all()
    assert set(rows.filter(pl.col("target") == "return")["key"]) == {"AAA"}


def test_an_asset_of_the_basket_without_history_leaves_only_returns(lake: Lake) -> None:
    lake.write("prices", bars(noise(40, 35, assets=("AAA", "BBB"))))
    model, _, ahead = split(lake, 40, 30)
    assert set(model.predict(ahead)["target"]) == {"return", "covariance"}


def test_no_history_is_refused(lake: Lake) -> None:
    assert FAMILY.keys(lake, CFG) == []
    lake.write("prices", bars(noise(2, 36)))
    panel = FAMILY.build(lake, CFG, START, START + timedelta(days=2))
    with pytest.raises(NotEnoughData):
        FAMILY.fit(panel, CFG)


def test_holes_leave_labels_unknown(lake: Lake) -> None:
    rows = bars(noise(10, 37))
    hole = START + timedelta(days=6)
    lake.write("prices", rows.filter(~pl.col("ts").is_between(hole, hole + timedelta(hours=2))))
    panel = FAMILY.build(lake, CFG, START, START + timedelta(days=10))

    def at(moment: datetime, column: str) -> float | None:
        return panel.filter((pl.col("key") == "AAA") & (pl.col("ts") == moment))[column].item()

    assert at(hole + timedelta(hours=-2), label("return", 4 * 3600)) is None  # ends in the hole
    assert at(hole + timedelta(hours=2), label("return", 4 * 3600)) is None  # starts in it
    assert at(hole + timedelta(hours=-1), label("return", 12 * 3600)) is not None  # spans it

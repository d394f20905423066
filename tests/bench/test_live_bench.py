"""A live decision: every target and horizon, features, calibration and trust included, timed by `make bench`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lake.sources.sample import simulate
from lake.store import Lake
from models import novelty
from models.base import DRIFT_HORIZONS_H, GAS_HORIZONS_H, GAS_MIN_HORIZONS_H
from models.calibrate import Corrections
from models.config import ModelConfig
from models.drift import DriftFamily
from models.gas import GasFamily
from models.labels import hide_unknown
from models.live import LiveModel, issue, recent
from models.trust import Trust
from tests.models.market import START

ASSETS = ("BTC", "ETH", "LINK", "UNI", "AAVE")


@pytest.mark.slow
def test_live_decision_latency(benchmark, tmp_path):
    lake = Lake(str(tmp_path))
    for name, frame in simulate(start=START, hours=24 * 80, seed=7).items():
        if name in ("prices", "gas"):
            lake.write(name, frame)
    cfg = ModelConfig(ASSETS, rounds=120)
    end = START + timedelta(days=78)
    models, inputs = {}, {}
    for family in (GasFamily(), DriftFamily()):
        known = hide_unknown(family.build(lake, cfg, START, end), end)
        fitted = family.fit(known, cfg)
        models[family.name] = LiveModel(family, fitted, Corrections({}), end)
        inputs[family.name] = novelty.learn(known)
    at = end + timedelta(hours=3)
    view = recent(lake, at)
    rows = benchmark(issue, view, cfg, models, at, Trust(view, timedelta(days=45), inputs))
    spoken = {t: set(rows.filter(target=t)["horizon_s"] // 3600) for t in ("gas", "gas_min", "drift")}
    assert spoken == {"gas": set(GAS_HORIZONS_H), "gas_min": set(GAS_MIN_HORIZONS_H), "drift": set(DRIFT_HORIZONS_H)}
    assert not rows["abstain"].all()

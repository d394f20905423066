"""A live decision: every target and horizon, features, calibration and trust included, timed by `make bench`."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import pytest

from lake.sources.sample import simulate
from lake.store import Lake
from models.base import DRIFT_HORIZONS_H, GAS_HORIZONS_H, GAS_MIN_HORIZONS_H, SLIPPAGE_HORIZONS_H
from models.config import ModelConfig
from models.drift.family import DriftFamily
from models.evaluation.calibrate import Corrections, calibrate_rows
from models.evaluation.labels import hide_unknown
from models.gas.family import GasFamily
from models.serving import novelty
from models.serving.live import LiveModel, issue, recent
from models.serving.trust import Trust
from models.slippage.family import SlippageFamily
from tests.models.market import START

ASSETS = ("BTC", "ETH", "LINK", "UNI", "AAVE")
HORIZONS_H = {
    "gas": GAS_HORIZONS_H,
    "gas_min": GAS_MIN_HORIZONS_H,
    **dict.fromkeys(("return", "drift", "band_exit"), DRIFT_HORIZONS_H),
    "covariance": (24,),
    **dict.fromkeys(("slippage", "depth"), SLIPPAGE_HORIZONS_H),
}


LISTENERS, HOOKED = [], []  # an audit hook cannot be taken away again


class Clock:
    """Milliseconds of wall and processor time by stage, one list entry a decision."""

    def __init__(self):
        self.spent = defaultdict(list)

    def run(self, stage, call):
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return call()
        finally:
            self.spent[stage].append(((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3))

    def wrap(self, monkeypatch, owner, name, stage):
        whole = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: self.run(stage, lambda: whole(*args)))

    def table(self):
        found = {stage: (*np.median(values, axis=0), *np.min(values, axis=0)) for stage, values in self.spent.items()}
        head = f"{'ms':24s} {'wall':>8s} {'cpu':>8s} {'least':>8s} {'least':>8s}"
        return "\n".join([head, *(f"{n:24s} " + " ".join(f"{v:8.2f}" for v in row) for n, row in found.items())])


@contextmanager
def opened():
    """Yield the list of files that this thread opens meanwhile."""
    found, thread = [], threading.get_ident()
    LISTENERS.append(lambda path: found.append(str(path)) if threading.get_ident() == thread else None)
    if len(HOOKED) == 0:
        HOOKED.append(True)
        sys.addaudithook(lambda event, given: event == "open" and [heard(given[0]) for heard in LISTENERS])
    try:
        yield found
    finally:
        LISTENERS.clear()


@pytest.mark.slow
def test_live_decision_latency(pace, tmp_path, monkeypatch):
    runs = pace.pick(50, 1)
    lake = Lake(str(tmp_path))
    for name, frame in simulate(start=START, hours=24 * 80, seed=7).items():
        if name in ("prices", "gas", "pool_state"):
            lake.write(name, frame)
    cfg = ModelConfig(ASSETS, rounds=pace.pick(120, 8))
    end = START + timedelta(days=78)
    models, inputs = {}, {}
    for family in (GasFamily(), DriftFamily(), SlippageFamily()):
        known = hide_unknown(family.build(lake, cfg, START, end), end)
        fitted = family.fit(known, cfg)
        week = known.filter(known["ts"] >= end - timedelta(days=7))
        _, corrections = calibrate_rows(fitted.predict(week), family.outcomes(week, cfg), family.targets)
        models[family.name] = LiveModel(family, fitted, corrections, end)
        inputs[family.name] = novelty.learn(known)
    at = end + timedelta(hours=4)  # an hour with rows of pairs
    clock, view = Clock(), recent(lake, at)

    def decide():
        return issue(view, cfg, models, at, Trust(view, timedelta(days=45), inputs))

    rows = decide()  # the first one compiles
    with opened() as files:
        decide()
    assert not files, f"a decision reads what is in memory; it opened {files[:3]}"
    for _ in range(runs):
        clock.run("decision", decide)
    for model in models.values():
        clock.wrap(monkeypatch, type(model.family), "now", f"{model.family.name} features")
        clock.wrap(monkeypatch, type(model.fitted), "forecasts", f"{model.family.name} forecasts")
    clock.wrap(monkeypatch, Corrections, "apply", "calibration, a family")
    clock.wrap(monkeypatch, Trust, "__call__", "trust, a family")
    for _ in range(runs):
        decide()
    forests = [(f, np.zeros((1, f.features))) for f in models["gas"].fitted.forests.values()]
    for _ in range(runs):
        compiled = clock.run("gas trees, compiled", lambda: [f.predict(x) for f, x in forests])
        asked = clock.run(
            "gas trees, LightGBM", lambda: [b.predict(x, raw_score=True) for f, x in forests for b in f.boosters]
        )
    np.testing.assert_array_equal(np.concatenate(compiled, axis=1).ravel(), np.concatenate(asked))
    spoken = {t: set(rows.filter(target=t)["horizon_s"] // 3600) for t in HORIZONS_H}
    assert spoken == {target: set(hours) for target, hours in HORIZONS_H.items()}
    assert not rows["abstain"].all()
    ours, peer = (np.median(clock.spent[f"gas trees, {by}"], axis=0)[1] for by in ("compiled", "LightGBM"))
    if pace.timed:
        print(f"\nlive decision, {rows.height} rows: median and least\n{clock.table()}")
        assert ours < peer

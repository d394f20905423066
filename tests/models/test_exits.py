"""Band exits at measurable tolerances, and the ceiling that hindsight gives."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from models.config import ModelConfig
from models.drift.exit_scores import SHARE, exit_rows, measurable
from models.drift.family import DriftFamily
from models.drift.hindsight import hindsight_rows
from models.evaluation.labels import hide_unknown
from models.evaluation.scores import losses
from pipelines.reports.train_report import exit_skills
from tests.models.drift_market import ASSETS, START, bars, garch

CFG = ModelConfig(ASSETS, rounds=40)
CUT, END = START + timedelta(days=70), START + timedelta(days=100)


@pytest.fixture(scope="module")
def panel(tmp_path_factory) -> pl.DataFrame:
    lake = Lake(str(tmp_path_factory.mktemp("exits")))
    lake.write("prices", bars(garch(101, 12, season=0.5)[0]))
    found = DriftFamily().build(lake, CFG, START, END)
    return found.filter(~pl.col("key").str.contains("|", literal=True))


def test_bands_are_those_left_in_a_tenth_of_the_past_and_skill_is_counted_there(panel):
    known, ahead = hide_unknown(panel.filter(pl.col("ts") < CUT), CUT), panel.filter(pl.col("ts") >= CUT)
    for h in (1, 24):
        for asset, tolerance in measurable(known, CFG, h).items():
            own = known.filter(key=asset)
            reach = own.select(pl.max_horizontal(f"y|up|{h * 3600}", f"y|down|{h * 3600}"))[:, 0].drop_nulls()
            assert (reach > np.log1p(tolerance * len(ASSETS))).mean() == pytest.approx(SHARE, abs=0.01)
    model = DriftFamily().fit(known, CFG)
    rows = exit_rows(model, known, ahead, CFG)
    path = ahead.filter(key="BBB").sort("ts")
    one = rows.filter((pl.col("key") == "BBB") & (pl.col("horizon_h") == 4)).sort("issued_at")
    edge = one["tolerance"][0] * len(ASSETS)
    joined = one.join(path.select(pl.col("ts").alias("issued_at"), "y|up|14400", "y|down|14400"), on="issued_at")
    left = (joined["y|up|14400"] > np.log1p(edge)) | (joined["y|down|14400"] > -np.log1p(-edge))
    assert (left == (joined["y"] > 0)).all()
    table = exit_skills(rows)
    assert table["horizon_h"].unique().sort().to_list() == [1, 4, 12, 24]
    assert table["exits"].is_between(0.02, 0.3).all()
    best = table.filter((pl.col("horizon_h") == 1) & (pl.col("baseline") == "last"))
    assert best["skill"].item() > 0.0  # a season and clustering that a constant does not know
    assert exit_skills(pl.DataFrame()).is_empty()


def test_hindsight_is_at_least_as_good_as_any_forecast_of_the_same_features(panel):
    known, ahead = hide_unknown(panel.filter(pl.col("ts") < CUT), CUT), panel.filter(pl.col("ts") >= CUT)
    family = DriftFamily()
    outcomes, specs = family.outcomes(ahead, CFG), tuple(s for s in family.targets if s.name == "drift")
    total = {
        name: losses(rows, outcomes, specs).group_by("horizon_s").agg(pl.col("loss").sum()).sort("horizon_s")["loss"]
        for name, rows in (("hindsight", hindsight_rows(ahead)), ("model", family.fit(known, CFG).predict(ahead)))
    }
    assert (total["hindsight"] < total["model"]).all()

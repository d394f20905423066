"""Perturb the future: clean stages show nothing, a planted leak is caught by name."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from lake.store import Lake
from pipelines.deployments import deployment
from pipelines.stages import leakage
from pipelines.wiring import families_of, lake_of
from tests.pipelines.market import END, project

MOMENT = END - timedelta(days=5)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return project(tmp_path_factory.mktemp("leak"))


class Peeking:
    """A family whose only feature is the NEXT hour's close."""

    name = "peeking"

    def keys(self, lake, cfg):
        return ["BTC"]

    def build(self, lake, cfg, start, end):
        rows = lake.scan("prices").filter(pl.col("asset") == "BTC").sort("ts")
        panel = rows.select(
            pl.lit("BTC").alias("key"),
            pl.col("available_at").alias("ts"),
            pl.col("close").shift(-1).alias("next_close"),
        )
        return panel.filter(pl.col("ts").is_between(start, end, closed="left")).collect()


def test_features_of_every_family_are_clean(settings):
    count, leaks = leakage.features(deployment(settings), lake_of(settings), list(families_of().values()), [MOMENT])
    assert count > 1_000
    assert leaks == []


def test_a_planted_leak_is_named(settings):
    _, leaks = leakage.features(deployment(settings), lake_of(settings), [Peeking()], [MOMENT])
    assert leaks == [f"feature peeking.next_close at {MOMENT}"]


@pytest.mark.slow
def test_decisions_are_clean_and_a_policy_that_peeks_is_named(settings, monkeypatch):
    lake = lake_of(settings)
    monkeypatch.setattr(leakage, "NAMES", ("threshold_5pct", "gas_band"))
    monkeypatch.setattr(leakage, "BOUNDS", ())
    count, leaks = leakage.decisions(deployment(settings), lake, [], [MOMENT])
    assert count > 0
    assert leaks == []
    monkeypatch.setattr(leakage, "NAMES", ("gas_band", "clairvoyant"))
    _, leaks = leakage.decisions(deployment(settings), lake, [], [MOMENT])
    assert leaks == [f"decisions of clairvoyant at or before {MOMENT}"]


def test_the_perturbation_touches_only_what_came_later(settings):
    lake: Lake = lake_of(settings)
    before = lake.scan("gas").collect()
    after = leakage.Perturbed(lake, MOMENT).scan("gas").collect()
    early = pl.col("available_at") <= MOMENT
    assert before.filter(early).equals(after.filter(early))
    assert not before.filter(~early).equals(after.filter(~early))

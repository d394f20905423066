"""The cheapest minute is taken where days it was not chosen on prove it, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import StoreError
from lake.tables import table
from lake.units import utc
from pipelines import wiring
from pipelines.deployments import deployment, deployments
from pipelines.scheduled.serve import deployments as served
from pipelines.settings import load
from pipelines.stages.portfolio import _due
from pipelines.stages.thresholds import minute_sentence
from pipelines.vault_setup.kept import minute_s
from pipelines.wiring import PanelChoice, cheapest_at, compare_config, cron_at
from policy.simulation.gas_minutes import LEAST_DAYS, LIFE_DAYS, Cheapest, cheapest

START = utc("2024-01-01")
SHAPE = np.array([1.10, 1.05, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.97, 0.90, 0.98, 1.0])
TEXT = """
[schedule]
cheapest_minute = {on}
[[deployments]]
name = "second"
rebalance = "20 * * * *"
"""


def windows(days: int, shape=SHAPE, noise: float = 0.05, seed: int = 0, start=START) -> pl.DataFrame:
    """Five-minute gas whose level roams by the hour and whose shape within it is ``shape`` with noise."""
    rng = np.random.default_rng(seed)
    level = 20.0 * np.exp(np.cumsum(0.1 * rng.standard_normal(24 * days)))
    gas = level[:, None] * shape * np.exp(noise * rng.standard_normal((24 * days, 12)))
    ts = pl.datetime_range(start, start + timedelta(days=days), "5m", closed="left", time_unit="us", eager=True)
    return pl.DataFrame({"ts": ts, "gas": gas.ravel()})


def test_it_finds_the_dip_and_its_error_is_that_of_days_it_was_not_chosen_on():
    rows = windows(40)
    found = cheapest(rows, 6)
    assert (found.minute, found.own, found.days) == (47, 6, 20)
    assert found.proven
    assert abs(found.saving - 0.15) < 4.0 * found.error
    later = rows.filter(pl.col("ts") >= START + timedelta(days=20)).with_columns(
        slot=pl.col("ts").dt.minute() // 5, day=pl.col("ts").dt.date(),
        ratio=pl.col("gas") / pl.col("gas").mean().over(pl.col("ts").dt.truncate("1h")),
    )  # fmt: skip
    by_day = later.group_by("day").agg(
        less=pl.col("ratio").filter(pl.col("slot") == 1).mean() - pl.col("ratio").filter(pl.col("slot") == 9).mean()
    )["less"]
    assert found.saving == pytest.approx(by_day.mean(), rel=1e-12)
    assert found.error == pytest.approx(by_day.std() / np.sqrt(20), rel=1e-12)


def test_where_all_minutes_cost_the_same_hardly_any_is_proven():
    found = [cheapest(windows(40, np.ones(12), seed=s), 6) for s in range(60)]
    assert sum(f.proven for f in found) <= 2  # of 60: one in 740 each, were errors normal
    assert abs(np.mean([f.saving for f in found])) < 0.002  # judged on other days: no winner's luck


def test_few_days_prove_nothing_and_a_dip_that_turned_is_none():
    assert cheapest(windows(3), 6) is None
    assert cheapest(windows(3).clear(), 6) is None
    short = cheapest(windows(2 * LEAST_DAYS - 2), 6)
    assert short.saving > 3.0 * short.error
    assert not short.proven
    turned = pl.concat([windows(20), windows(20, SHAPE[::-1], start=START + timedelta(days=20))])
    assert not cheapest(turned, 20).proven


def test_minutes_before_the_hours_forecasts_are_left_out_and_old_days_too():
    early = np.roll(SHAPE, -9)  # the dip at :00
    assert cheapest(windows(40, early), 30).minute == 2
    assert cheapest(windows(40, early), 30, after=4).minute != 2
    assert cheapest(windows(40), 6, after=58) is None
    old = windows(40, np.roll(SHAPE, 6), start=START - timedelta(days=LIFE_DAYS + 30))
    both, new = cheapest(pl.concat([old, windows(40)]), 6), cheapest(windows(40), 6)
    assert (both.minute, both.days) == (new.minute, new.days)
    assert both.saving == pytest.approx(new.saving, rel=1e-9)


def project(root, *, on: bool, days: int = 40):
    file = root / "foredrift.toml"
    file.write_text(TEXT.format(on=str(on).lower()))
    rows = windows(days).select(
        "ts", base_fee_gwei="gas", chain_id=pl.lit(1), available_at=pl.col("ts") + timedelta(minutes=5)
    )
    columns = table("gas").columns
    settings = load(file)
    wiring.lake_of(settings).write("gas", rows.select(
        pl.col(n).cast(t) if n in rows.columns else pl.lit(None, dtype=t).alias(n) for n, t in columns.items()
    ))  # fmt: skip
    return settings


def test_everything_that_knows_the_schedule_runs_at_the_proven_minute(tmp_path, monkeypatch):
    settings, at = project(tmp_path, on=True), START + timedelta(days=40, hours=1)
    for module in ("pipelines.scheduled.serve", "pipelines.vault_setup.kept"):
        monkeypatch.setattr(f"{module}.now", lambda: at)
    assert [cron_at(d, at) for d in deployments(settings)] == ["47 * * * *", "47 * * * *"]
    made = served(settings, ["ingest", "rebalance"])
    assert [(d.flow_name, d.schedules[0].schedule.cron) for d in made] == [
        ("ingest", "2 * * * *"), ("rebalance", "47 * * * *"), ("rebalance", "47 * * * *"),
    ]  # fmt: skip
    one = deployment(settings)
    assert minute_s(one) == 47 * 60
    assert _due(one, at).startswith((at + timedelta(minutes=47)).isoformat())
    asked = PanelChoice(1, ("gas_band",), resolution="5m")
    assert compare_config(one, (at, at + timedelta(days=1)), asked).minute == 47
    past = START + timedelta(days=2)  # as a comparison would have known it
    assert compare_config(one, (past, at), asked).minute == 6


def test_it_stays_where_nothing_is_proven_or_nobody_asked(tmp_path, monkeypatch):
    at = START + timedelta(days=40)
    settings = project(tmp_path, on=False)
    assert [cron_at(d, at) for d in deployments(settings)] == ["6 * * * *", "20 * * * *"]
    one = deployment(settings)
    asked = replace(one, schedule=one.schedule.model_copy(update={"cheapest_minute": True}))
    assert cron_at(asked, at) == "47 * * * *"
    assert cron_at(asked, START + timedelta(days=20)) == "6 * * * *"  # ten days judge: too few
    for cron in ("*/10 * * * *", "6 3 * * *", "@hourly x"):
        assert cron_at(replace(asked, cron=cron), at) == cron
        assert cheapest_at(replace(asked, cron=cron), wiring.lake_of(one), at) is None

    def broken(_):
        raise StoreError("the store is away")

    monkeypatch.setattr(wiring, "lake_of", broken)
    assert cron_at(asked, at) == "6 * * * *"


@pytest.mark.parametrize(
    ("proven", "used", "words"),
    [(True, True, "the schedule runs there"), (True, False, "cheapest_minute = true"), (False, True, "stays at :06")],
)
def test_thresholds_say_what_is_proven(proven, used, words):
    best = Cheapest(6, 47, 0.15, 0.01, 20 if proven else 3)
    said = minute_sentence(best, used=used)
    assert words in said
    assert ":47 saves +15.0% +- 1.0%" in said
    assert best.json()["proven"] == proven

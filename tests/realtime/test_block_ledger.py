"""One ledger at every resolution: the block kernel is the hourly simulator where both see the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from lake.errors import ConfigError
from policy.comparison import resolved
from policy.comparison.compare import run
from policy.realtime.looks import LOOKS
from policy.simulation import simulator
from policy.simulation.block_world import BlockWorld, build, gas_by_slot, recorded_windows
from policy.simulation.panel import Cell
from policy.simulation.planner import prepare
from policy.strategies.reactive import REACTIVE
from policy.strategies.registry import CompareConfig
from tests.policy.conftest import START, basket
from tests.realtime.conftest import END

ASSETS = ("AAA", "BBB", "ETH")
CELLS = (Cell("soft", "soft", 1e5, 1), Cell("hard", "hard", 1e5, 1, tolerances=(0.02,)))


def config(resolution, names, **changes):
    given = {"cells": CELLS, "assets": ASSETS, "threads": 1, "starts": 1, "draws": 100, **changes}
    return CompareConfig(START, END, 1, names, resolution=resolution, **given)


def hourly_world(history) -> BlockWorld:
    """The hours themselves as blocks: what the hourly ledger sees."""
    span = slice(history.first, len(history.ts) - 1)
    return BlockWorld(
        3600, int(history.ts[history.first] // 10**6), np.ascontiguousarray(history.returns[span]),
        history.gas_gwei[span].copy(), np.zeros(0), np.arange(span.start, span.stop), (), semi_synthetic=False,
    )  # fmt: skip


def plain_field(world: BlockWorld) -> resolved.Field:
    log, none = np.log(world.gas_gwei), np.full(world.gas_gwei.size, -1, dtype=np.int64)
    step = max(np.ptp(log) / (resolved.COLUMNS - 1), 1e-6)
    return resolved.Field(world, 0, float(log.min()), step, (log - log.min()) / step, (), none[:0], none, none)


@pytest.mark.parametrize("scenario", ["soft", "hard"])
def test_with_one_block_an_hour_it_is_the_hourly_simulator_to_the_last_digits(history, scenario):
    field, week = plain_field(hourly_world(history)), history.week()
    case = prepare(history, basket(4, scenario, nav=1e5, tolerance=0.02))
    for rule in REACTIVE:
        plan = rule.levels_over(case)
        whole, fine = simulator.simulate(case, plan, week), resolved.simulate(case, field, week, plan=plan, delay=0)
        assert np.allclose(fine.weekly, whole.weekly, rtol=1e-9, atol=1e-15), rule.name
        assert (fine.trades, fine.violations, fine.violations_could_not) == (
            whole.trades, whole.violations, whole.violations_could_not,
        )  # fmt: skip
        assert np.array_equal(fine.log.step, whole.log.step)
        assert np.allclose(fine.log.after, whole.log.after)
        assert fine.minutes_outside == pytest.approx(whole.minutes_outside, rel=1e-3)


def test_the_world_keeps_what_is_recorded_and_draws_only_the_rest(fine_lake, fine_history):
    world = build(fine_lake, fine_history)
    again, other = build(fine_lake, fine_history), build(fine_lake, fine_history, seed=8)
    hours = fine_history.hours
    assert world.semi_synthetic
    assert "recorded days" in world.notes[1]
    assert world.returns.shape == (300 * hours, 3)
    assert np.array_equal(world.returns, again.returns)
    assert np.array_equal(world.gas_gwei, again.gas_gwei)
    assert not np.array_equal(world.gas_gwei, other.gas_gwei)
    by_hour = np.prod(1.0 + world.returns.reshape(hours, 300, 3), axis=1) - 1.0
    assert np.allclose(by_hour, fine_history.returns[fine_history.first : -1], atol=1e-9)
    mean = world.gas_gwei.reshape(hours, 300).mean(axis=1)
    assert np.median(np.abs(np.log(mean / fine_history.gas_gwei[fine_history.first + 1 :]))) < 0.06
    flat = build(fine_lake, fine_history, flat=True)
    assert np.array_equal(flat.gas_gwei[::300], fine_history.gas_gwei[fine_history.first + 1 :])
    assert np.array_equal(flat.returns, world.returns)
    five = world.every(300)
    assert np.allclose(np.prod(1.0 + five.returns, axis=0), np.prod(1.0 + world.returns, axis=0))
    assert np.array_equal(five.gas_gwei, world.gas_gwei[::25])
    with pytest.raises(ConfigError, match="multiple"):
        world.every(50)


def test_recorded_blocks_are_used_as_they_are(fine_history, tmp_path):
    import polars as pl

    from policy.simulation.history import load
    from tests.policy.conftest import fill, frames

    made = frames()
    lake = fill(tmp_path / "lake", made)
    ts = pl.datetime_range(
        START + timedelta(seconds=12), START + timedelta(hours=2), "12s", eager=True, time_unit="us", time_zone="UTC"
    )
    price = 20.0 + np.arange(ts.len()) % 7
    columns = lake.scan("gas").collect_schema()
    rows = pl.DataFrame({"chain_id": 1, "ts": ts, "base_fee_gwei": price, "block_number": np.arange(ts.len()),
                         "available_at": ts}).filter(~pl.col("ts").is_in(made["gas"]["ts"].implode()))  # fmt: skip
    lake.write("gas", rows.select(
        pl.col(n).cast(t) if n in rows.columns else pl.lit(None, dtype=t).alias(n) for n, t in columns.items()
    ))  # fmt: skip
    history = load(lake, START, END, ASSETS)
    world = build(lake, history)
    assert "modelled shape, block residuals as recorded" in world.notes[1]
    slots = ((rows["ts"] - START).dt.total_seconds() // 12).to_numpy()
    assert np.allclose(world.gas_gwei[slots], rows["base_fee_gwei"].to_numpy())


def test_gas_by_minute_of_the_hour_comes_with_its_error(fine_lake):
    rows = gas_by_slot(recorded_windows(fine_lake, 1, END))
    assert rows["minute"].to_list() == list(range(0, 60, 5))
    assert rows["ratio"].mean() == pytest.approx(1.0)
    first = rows.row(0, named=True)
    assert first["ratio"] > 1.2
    assert first["hours"] == 48
    assert 0.0 < first["error"] < 0.1


def test_a_trade_is_charged_at_its_own_block_and_the_frames_add_up(fine_lake):
    found = run(fine_lake, config("block", ("threshold_5pct", "gas_band", "gas_band_block")))
    assert {p["resolution"] for p in found.json["pairs"]} == {"block"}
    for row in found.json["policies"]:
        of = found.trades.filter(found.trades["policy"].cast(str) == row["policy"])
        of = of.filter(of["portfolio_id"].cast(str).str.starts_with(row["scenario"]))
        days = (END - START).total_seconds() / 86_400
        assert of["gas_usd"].sum() / 1e5 * 1e4 * 365.25 / days == pytest.approx(row["gas_bp"], rel=1e-9, abs=1e-12)
        trades = of["ts"].n_unique()
        assert row["gas_per_trade_usd"] == pytest.approx(of["gas_usd"].sum() / max(trades, 1))
        assert row["wait_s"] == pytest.approx(12.0 if trades else 0.0)
        if row["policy"] == "gas_band" and trades:  # minute 6 and one block
            assert set(of["ts"].dt.minute()) == {6}
            assert set(of["ts"].dt.second()) == {12}
    assert "resolution" in found.json["data"]
    hard = {r["policy"]: r for r in found.json["policies"] if r["scenario"] == "hard"}
    assert hard["gas_band_block"]["minutes_outside"] < 0.1 * hard["gas_band"]["minutes_outside"]


def test_the_hour_is_as_it_was_and_says_its_minutes(fine_lake):
    found = run(fine_lake, config("hour", ("threshold_5pct", "gas_band")))
    for row in found.json["policies"]:
        hours = (END - START).total_seconds() / 3600
        assert row["minutes_outside"] == pytest.approx(60.0 * row["violations"] * 8766.0 / hours)
        assert (row["wait_s"], row["unfilled"]) == (0.0, 0)
    assert {p["resolution"] for p in found.json["pairs"]} == {"hour"}


def test_five_minutes_and_blocks_run_every_rule_that_fits_and_twice_alike(fine_lake):
    for resolution in ("5m", "block"):
        names = tuple(look.name for look in LOOKS.values() if look.fits(resolution))
        once, twice = (run(fine_lake, config(resolution, names, seed=3)).json for _ in range(2))
        assert [r["policy"] for r in once["policies"]] == [*names, *names]
        assert json.dumps({k: v for k, v in once.items() if k != "timing"}) == json.dumps(
            {k: v for k, v in twice.items() if k != "timing"}
        )


@pytest.mark.parametrize(
    ("resolution", "names", "says"),
    [
        ("hour", ("gas_band", "gas_band_block"), "gas_band_block.*--resolution 5m or block"),
        ("5m", ("gas_band", "surface_block"), "surface_block.*--resolution block"),
        ("block", ("gas_band", "clairvoyant"), "clairvoyant.*hourly ledger only"),
        ("block", ("gas_band", "nonsense"), "nonsense"),
    ],
)
def test_what_has_no_place_at_a_resolution_is_named_with_the_remedy(fine_lake, resolution, names, says):
    with pytest.raises(ConfigError, match=says):
        run(fine_lake, config(resolution, names))


def test_a_limit_order_waits_for_its_price_and_gives_up_at_the_hour(fine_history, fine_lake):
    """Gas falls to half 20 minutes into every hour: an order pays it; where gas never falls, the hour is paid."""
    world = build(fine_lake, fine_history, flat=True)
    hours = fine_history.hours
    shape = np.r_[np.full(130, 1.0), np.full(20, 0.5), np.full(150, 1.0)]
    low = replace(world, gas_gwei=20.0 * np.tile(shape, hours))
    flat = replace(world, gas_gwei=20.0 * np.tile(np.r_[np.full(150, 1.0), np.full(150, 1.001)], hours))
    case = prepare(fine_history, replace(basket(2, "soft", nav=1e5, end=END), gamma=30.0))
    for given, filled in ((low, True), (flat, False)):
        field = plain_field(given)
        tables = resolved.gas_tables(case, field)
        now, order = (
            resolved.simulate(case, field, fine_history.week(), look=LOOKS[n], table=tables)
            for n in ("gas_band", "gas_limit")
        )
        assert now.trades > 0
        if filled:
            assert set(order.log.gas_gwei) == {10.0}
            assert order.fine.unfilled == 0
            assert 1000.0 < order.fine.wait_s < 2 * 3600.0
        else:
            assert min(order.log.gas_gwei) >= 20.0
            assert order.fine.unfilled > 0


def test_thresholds_say_what_the_schedules_minute_pays(fine_lake):
    from pipelines.stages.thresholds import schedule_sentence

    minutes = gas_by_slot(recorded_windows(fine_lake, 1, END))
    said = schedule_sentence(minutes, "3 * * * *")
    assert "the schedule's :03 pays +" in said
    assert "+-" in said
    assert "cheapest at :" in schedule_sentence(minutes, "*/10 * * * *")
    assert "no whole day" in schedule_sentence(minutes.clear(), "6 * * * *")


def test_the_verb_compares_within_the_hour_and_refuses_in_words(tmp_path, capsys):
    from pipelines.reports import terminal
    from pipelines.stages import compare
    from pipelines.wiring import PanelChoice
    from tests.pipelines.test_needs import project, refused

    settings = project(tmp_path)
    asked = PanelChoice(1, ["gas_band", "gas_band_5m"], resolution="5m")
    given = {"track": False, "asked": asked}
    end = START + timedelta(days=10)
    found = compare.compare(settings, START.isoformat(), end.isoformat(), **given).json
    assert found["data"]["resolution"] == "5m"
    assert {r["policy"] for r in found["policies"]} == {"gas_band", "gas_band_5m"}
    assert any("seeded" in note for note in found["data"]["notes"])
    terminal.policies(found)
    told = capsys.readouterr().out
    assert "looked at every 5m" in told
    assert "gas_band_5m / gas_band" in told
    assert "take threads" in refused(compare.compare, settings, engine="dask", **given)
    unknown = refused(compare.compare, settings, **{**given, "asked": replace(asked, policies=["gas_bund"])})
    assert "no policy gas_bund" in unknown
    assert "surface_block" in unknown

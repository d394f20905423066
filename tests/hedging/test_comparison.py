"""The comparison: pairs from one ledger, equal error inside the range only, gamma for a wanted error, from a lake."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.errors import NotEnoughData
from lake.store import Lake
from pipelines.stages.book_file import Template
from pipelines.stages.hedge_compare import market as market_of
from policy.comparison import hedges as panel
from policy.comparison.hedges import HedgeMarket, HedgeTerms
from policy.hedging import case as cases
from policy.hedging.ledger import Ledger
from tests.hedging.test_strategies import FIRST, prices

DATA = Path(os.environ.get("FOREDRIFT_DATA", "../shared/data"))
TERMS = HedgeTerms(1e6, "L1", 0.001)


@pytest.fixture(scope="module")
def market():
    price = prices(2)
    gas = 20.0 * np.exp(0.4 * np.random.default_rng(3).standard_normal(price.size))
    return HedgeMarket("ETH", price, cases.proxy_vol(price, 1.0), gas, FIRST, 1.0)


@pytest.fixture(scope="module")
def paths(market):
    return [cases.straddle(market.price, market.vol, 1.0, o, 30.0, 1.0) for o in (0.0, 230.0, 460.0)]


def test_every_rule_is_paired_with_an_interval_and_the_best_width_is_the_best(market, paths):
    cell = panel.compare(market, paths, TERMS, 10.0)
    scores = {s.rule: s for s in cell.scores}
    assert {p.against for p in cell.pairs} == set(scores) - {"hedge_gas_band"}
    mine = scores["hedge_gas_band"]
    for pair in cell.pairs:
        assert pair.objective.value == pytest.approx(mine.objective_bp / scores[pair.against].objective_bp)
        assert pair.objective.low <= pair.objective.value <= pair.objective.high
    held = panel.cases(market, paths, TERMS)
    widths = panel.tuned(held, FIRST, panel.rules.hedge_delta, panel.rules.WIDTHS)
    assert scores["hedge_delta"].objective_bp == min(led.objective_bp(10.0) for _, led in widths)
    assert cell.pair("hedge_delta").objective.value < 1.0
    assert cell.pair("hedge_schedule").equal_error < 0.7


def test_equal_error_is_undefined_outside_the_range():
    def ledger(cost, te):
        weeks = np.zeros((1, 7))
        weeks[0, 0], weeks[0, 2] = cost, te**2
        return Ledger(weeks, 168.0)

    found = [(0.1, ledger(0.02, 0.01)), (0.2, ledger(0.01, 0.02))]
    low, high = (led.te_bp for _, led in found)
    assert panel.at_error(found, 0.9 * low) is None
    assert panel.at_error(found, 1.1 * high) is None
    middle = panel.at_error(found, math.sqrt(low * high))
    assert middle == pytest.approx(math.sqrt(found[0][1].cost_bp * found[1][1].cost_bp))
    assert panel.at_error([], 1.0) is None


def test_gamma_gives_the_wanted_tracking_error(market, paths):
    gamma = panel.gamma_for(market, paths, TERMS, 0.06)
    held = panel.cases(market, paths, TERMS)
    te = panel.total(held, FIRST, lambda c: panel.rules.hedge_gas_band(c, gamma)).te_bp
    assert te == pytest.approx(600.0, rel=0.03)


def test_usual_gas_is_of_the_past(market):
    gas, usual = panel.gas_of(market, TERMS)
    changed = gas.copy()
    changed[1_500:] *= 9
    assert np.array_equal(panel.trailing_median(changed, 720)[:1_500], usual[:1_500])
    flat, same = panel.gas_of(market, HedgeTerms(1e5, "L2", 0.001, 0.2))
    assert np.array_equal(flat, same)
    assert flat[0] == pytest.approx(2e-6)


def test_the_hard_limit_is_never_left_broken_and_waiting_costs(market, paths):
    hard = panel.compare_hard(market, paths, TERMS, 0.2)
    assert hard.breaches == 0
    assert 0 < hard.over < hard.steps
    slow = panel.compare_cadence(market, paths, HedgeTerms(1e6, "L2", 0.0005), 30.0)
    assert slow.every_h == (1.0, 4.0)
    assert slow.over_first[0].value == 1.0
    assert slow.over_first[1].value > 1.2


CONFIG = '[lake]\nuri = "lake.data"\n'


def project(tmp_path, hours=24 * 110):
    ts = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(hours)]
    lake = Lake(str(tmp_path / "lake.data"))
    close = prices(7, hours)
    bars = {"source": "mine", "asset": "ETH", "step": 3600, "ts": ts, "close": close}
    known = pl.col("ts") + pl.duration(hours=1)
    lake.write("prices", pl.DataFrame(bars).with_columns(available_at=known))
    gas = {"chain_id": 1, "ts": ts, "base_fee_gwei": np.full(hours, 20.0)}
    lake.write("gas", pl.DataFrame(gas).with_columns(available_at=known))


def compared(tmp_path, *more):
    command = [sys.executable, "-m", "pipelines.cli", "compare", "--hedge", "BOOK.toml", "--json", "out.json", *more]
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)


@pytest.mark.slow
def test_the_verb_compares_on_the_lake_and_refuses_what_has_no_meaning(tmp_path):
    done = subprocess.run([sys.executable, "-m", "pipelines.cli", "init"], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(Path.cwd())})  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "BOOK.toml").write_text('[hedge]\ntemplate = "lp"\nasset = "ETH"\nnav_usd = 1e6\nte_target = 0.05\n')
    from pipelines.settings import load
    from pipelines.wiring import lake_of

    home = load(tmp_path / "foredrift.toml")
    lake = lake_of(home)
    project(tmp_path / "x")
    for name in ("prices", "gas"):
        lake.write(name, Lake(str(tmp_path / "x" / "lake.data")).scan(name).collect())
    done = compared(tmp_path, "--start", "2023-03-05", "--artifacts", "made")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert (tmp_path / "made" / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    assert {(c["terms"]["nav_usd"], c["terms"]["chain"]) for c in found["cells"]} == {(1e6, "L1"), (1e6, "L2")}
    for cell in found["cells"]:
        mine = next(s for s in cell["scores"] if s["rule"] == "hedge_gas_band")
        assert mine["te_bp"] == pytest.approx(500.0, rel=0.05)
    assert all(h["breaches"] == 0 for h in found["hard"])
    assert "no 5-minute bars of ETH" in found["notes"][0]
    from pipelines.experiments import client
    from pipelines.experiments.hedge_runs import log_hedges

    mlf = client.client(home)
    where = [client.experiment(home, mlf, client.COMPARISON).experiment_id]
    runs = mlf.search_runs(where, "tags.kind = 'hedge'")
    assert len(runs) == sum(len(c["scores"]) for c in found["cells"])
    score = found["cells"][0]["scores"][0]
    assert any(r.data.metrics["summary/cost_bp"] == score["cost_bp"] for r in runs)
    assert log_hedges(home, found) in done.stdout
    assert len(mlf.search_runs(where, "tags.kind = 'hedge'")) == len(runs)
    mlf.set_terminated(runs[0].info.run_id, "FAILED")
    log_hedges(home, found)
    again = mlf.search_runs(where, "tags.kind = 'hedge'")
    assert len(again) == len(runs)
    assert all(r.info.status == "FINISHED" for r in again)
    done = compared(tmp_path, "--policies", "hold")
    assert done.returncode == 2
    assert "--policies: of portfolios, not of a hedge" in done.stderr


def lake_of_bars(tmp_path, step, count):
    every = timedelta(seconds=step)
    ts = [datetime(2023, 1, 1, tzinfo=UTC) + every * i for i in range(count)]
    lake = Lake(str(tmp_path / "short"))
    bars = {"source": "mine", "asset": "ETH", "step": step, "ts": ts, "close": prices(7, count)}
    lake.write("prices", pl.DataFrame(bars).with_columns(available_at=pl.col("ts") + every))
    gas = {"chain_id": 1, "ts": ts, "base_fee_gwei": np.full(count, 20.0)}
    lake.write("gas", pl.DataFrame(gas).with_columns(available_at=pl.col("ts") + every))
    return lake


@pytest.mark.parametrize(("days", "said"), [(10, "reach under 14 days"), (40, "a month of them warms up")])
def test_a_short_history_is_said_to_be_short(tmp_path, days, said):
    template = Template("lp", "ETH", None, 450_000.0, 30.0, 1.0, 0.2, None, None)
    lake = lake_of_bars(tmp_path, 3600, 24 * days)
    span = (datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=days))
    with pytest.raises(NotEnoughData, match=said):
        market_of(lake, template, span, 3600)
    assert market_of(lake, template, span, 300) is None


def test_a_hedge_sees_the_bar_that_has_ended_and_the_gas_that_is_known(tmp_path):
    template = Template("lp", "ETH", None, 450_000.0, 30.0, 1.0, 0.2, None, None)
    begin, count, hour = datetime(2023, 1, 1, tzinfo=UTC), 24 * 60, timedelta(hours=1)
    lake = lake_of_bars(tmp_path, 3600, count)
    late = [begin + hour * (i + 1) + timedelta(minutes=7) for i in range(count)]
    rising = {"chain_id": 1, "ts": [begin + hour * i for i in range(count)], "base_fee_gwei": np.arange(1.0, count + 1)}
    lake.write("gas", pl.DataFrame(rising).with_columns(available_at=pl.Series(late)))
    found = market_of(lake, template, (begin + timedelta(days=40), begin + timedelta(days=60)), 3600)
    assert np.array_equal(found.price, prices(7, count)[: found.price.size])  # row i is the end of bar i
    known = np.arange(1, found.price.size)  # gas of the hour before, as this hour's comes seven minutes late
    assert found.gas_usd[1:] == pytest.approx(450_000e-9 * known * found.price[1:])


@pytest.mark.real
def test_the_band_beats_the_best_fixed_ones_on_recorded_history():
    if not (DATA / "prices_1h.parquet").is_file():
        pytest.skip(f"no recorded prices in {DATA} (set FOREDRIFT_DATA)")
    bars = pl.read_parquet(DATA / "prices_1h.parquet").filter(pl.col("asset") == "ETH").sort("ts")
    bars = bars.filter(pl.col("ts").is_between(datetime(2022, 3, 1, tzinfo=UTC), datetime(2022, 12, 11, tzinfo=UTC)))
    gas = pl.read_parquet(DATA / "gas_1h.parquet").sort("ts")
    both = bars.select("ts", "close").join_asof(gas.select("ts", "gas_price_gwei"), on="ts")
    price = both["close"].to_numpy()
    usd = 450_000e-9 * both["gas_price_gwei"].fill_null(strategy="backward").to_numpy() * price
    found = HedgeMarket("ETH", price, cases.proxy_vol(price, 1.0), usd, 60 * 24, 1.0)
    starts = [cases.straddle(price, found.vol, 1.0, o, 30.0, 1.0) for o in np.arange(0.0, 696.0, 96.0)]
    for terms, gamma in ((TERMS, 3.0), (HedgeTerms(1e5, "L2", 0.0005), 30.0)):
        cell = panel.compare(found, starts, terms, gamma)
        assert cell.pair("hedge_delta").equal_error <= 0.80
        assert cell.pair("hedge_schedule").equal_error <= 0.55
        assert cell.pair("hedge_gas_band without cap").objective.value <= 1.0

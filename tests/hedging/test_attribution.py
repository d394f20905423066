"""Attribution: exact on small moves, honest about what it cannot explain, and bad chains refused."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lake.errors import ConfigError, DataError, NotEnoughData
from lake.sources.options import check, read_chain
from pipelines.stages.attribution import attribution
from policy.hedging.attribution import TERMS, attribute, explained, intervals

START = datetime(2026, 1, 1, tzinfo=UTC)
REAL = Path(os.environ.get("FOREDRIFT_DATA", "../shared/data")) / "option_chain_6h.parquet"


def chain(steps=20, move=0.01, seed=0):
    rng = np.random.default_rng(seed)
    out, F, level = [], 3_000.0, 0.6
    for i in range(steps):
        ts = START + timedelta(hours=6 * i)
        for days in (20, 50):
            for strike in np.arange(2_400.0, 3_601.0, 100.0):
                vol = level + 0.1 * np.log(strike / 3_000) ** 2
                for kind in ("c", "p"):
                    out.append((ts, "ETH", START + timedelta(days=days), strike, kind, vol, F))
        F *= float(np.exp(move * rng.standard_normal()))
        level *= float(np.exp(0.5 * move * rng.standard_normal()))
    names = ["ts", "asset", "expiry", "strike", "kind", "mark_iv", "forward"]
    return pl.DataFrame(out, schema=names, orient="row")


def test_terms_and_rest_sum_to_the_profit_and_explain_it():
    found = attribute(intervals(check(chain(), "made")))
    assert len(found) == 19 * 2 * 13 * 2
    total = found.select(pl.sum_horizontal(*TERMS, "unexplained")).to_series()
    assert np.allclose(total, found["pnl"], atol=1e-9)
    for bucket in explained(found):
        assert bucket.hedged > 0.99
        assert bucket.price > 0.999


def test_the_rest_falls_with_the_third_power_of_the_move():
    # time cannot be halved with a fixed step, so only moves that dwarf it are compared
    rests = []
    for move in (0.04, 0.02):
        one = check(chain(2, 0.0), "made").with_columns(
            forward=pl.when(pl.col("ts") > START).then(pl.col("forward") * (1 + move)).otherwise(pl.col("forward")),
            tau=pl.lit(0.1),
        )
        rests.append(attribute(intervals(one))["unexplained"].abs().mean())
    assert rests[0] / rests[1] > 6.5


def test_a_sign_error_would_be_seen():
    found = attribute(intervals(check(chain(), "made")))
    wrong = found.with_columns(unexplained=pl.col("unexplained") + 2 * pl.col("theta"))
    assert min(b.hedged for b in explained(wrong)) < 0.9


FAULTS = {
    "per cent": (pl.col("mark_iv") * 100, "mark_iv", "divide by 100"),
    "strike": (pl.col("strike") * 0, "strike", "positive strike"),
    "forward": (pl.lit(None, pl.Float64), "forward", "forward of the expiry"),
    "nan": (pl.lit(float("nan")), "mark_iv", "positive implied volatility"),
    "expired": (pl.col("ts"), "expiry", "an expiry after ts"),
    "kind": (pl.lit("call"), "kind", "c \\(call\\) or p"),
    "naive": (pl.col("ts").dt.replace_time_zone(None), "ts", "aware UTC"),
    "twice": (pl.lit(3_000.0), "strike", "keep one row each"),
    "text": (pl.col("strike").cast(pl.String), "strike", "numbers are required"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_chains_are_refused(name):
    change, column, said = FAULTS[name]
    with pytest.raises(DataError, match=said):
        check(chain(2).with_columns(change.alias(column)), "made")


@pytest.mark.parametrize(
    ("bid", "ask", "said"), [(0.05, 0.04, "crossed"), (120.0, 130.0, "quote in USD"), (-0.1, 0.2, "no quote")]
)
def test_bad_quotes_are_refused(bid, ask, said):
    with pytest.raises(DataError, match=said):
        check(chain(2).with_columns(bid_coin=pl.lit(bid), ask_coin=pl.lit(ask)), "made")


def test_a_chain_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_chain(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a readable Parquet"):
        read_chain(tmp_path / "bad.parquet")
    chain(1).write_parquet(tmp_path / "one.parquet")
    with pytest.raises(NotEnoughData, match="two snapshots in a row"):
        attribution(read_chain(tmp_path / "one.parquet"), None, None, 0.985)
    with pytest.raises(DataError, match="columns forward are missing"):
        check(chain(2).drop("forward"), "made")


@pytest.mark.real
def test_recorded_profits_are_explained():
    if not REAL.is_file():
        pytest.skip(f"no recorded option chain at {REAL} (set FOREDRIFT_DATA)")
    found = attribution(read_chain(REAL), "2026-03-01", "2026-03-13", 0.985)
    assert found["ok"]
    need = {(2.0, 7.0): 0.92, (7.0, 35.0): 0.985, (35.0, 100.0): 0.995}
    for e in found["explained"]:
        assert e["hedged"] >= need[e["from_days"], e["to_days"]]
        assert e["from_days"] < 7 or e["price"] >= 0.999
    assert found["fit"]["hidden_median"] <= 0.08
    assert found["fit"]["hidden_p99"] <= 0.6
    assert found["fit"]["parity_coin"] <= 2e-5
    assert found["fit"]["inside_quotes"] > 0.9

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from models.evaluation.waiting_value import waiting_value
from tests.models.market import START, gas_rows


def world(days: int = 20):
    gas = gas_rows(days)
    panel = gas.select(pl.col("available_at").alias("ts"), pl.col("base_fee_gwei").alias("b|now_gwei"))
    price = panel["b|now_gwei"].to_numpy()
    n = len(price) - 48
    ahead = price[np.arange(n)[:, None] + np.arange(1, 49)]
    return panel, price, ahead


def table(panel: pl.DataFrame, values: np.ndarray) -> pl.DataFrame:
    n = len(values)
    ts = panel["ts"][:n]
    return pl.DataFrame({"issued_at": ts, "path": [0] * n, "values": values.tolist()})


def test_perfect_paths_save_everything_and_inverted_ones_lose():
    panel, _, ahead = world()
    perfect = waiting_value(table(panel, ahead), panel)
    assert perfect["share"] == pytest.approx(1.0)
    assert perfect["relative_share"] == pytest.approx(1.0)
    assert perfect["saving"] == pytest.approx(perfect["foresight"])
    assert waiting_value(table(panel, 1 / ahead), panel)["share"] < 0


def test_paths_above_the_present_price_never_wait():
    panel, price, ahead = world()
    found = waiting_value(table(panel, np.full_like(ahead, price.max() * 2)), panel)
    assert found["share"] == 0.0
    assert found["foresight"] > 0


def test_shares_are_a_brute_force_sum():
    panel, price, ahead = world()
    guess = ahead * np.exp(0.2 * np.random.default_rng(0).standard_normal(ahead.shape))
    found = waiting_value(table(panel, guess), panel, window_h=12)
    got = possible = 0.0
    for i in range(len(ahead)):
        options = [price[i], *guess[i, :12]]
        k = int(np.argmin(options))
        got += price[i] - price[i + k]
        possible += price[i] - price[i : i + 13].min()
    assert found["share"] == pytest.approx(got / possible)
    assert found["n"] == len(ahead)


def test_the_mean_over_paths_decides():
    panel, price, ahead = world(4)
    two = pl.concat([table(panel, ahead * 0.5), table(panel, ahead * 1.5).with_columns(path=pl.lit(1, pl.Int64))])
    assert waiting_value(two, panel)["share"] == pytest.approx(1.0)


def test_windows_with_holes_are_left_out():
    panel, _, ahead = world(6)
    hole = panel.filter(pl.col("ts") != START + timedelta(hours=40))
    whole = waiting_value(table(panel, ahead), panel)["n"]
    assert waiting_value(table(panel, ahead), hole)["n"] == whole - 25
    assert waiting_value(table(panel, ahead), panel.head(10)) == {"n": 0}

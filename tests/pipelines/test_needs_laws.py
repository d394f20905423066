"""What a comparison needs, told before it works: every missing asset and gas at once, and nothing that is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import ConfigError, NotEnoughData
from pipelines.stages.needs import LEAST, of_comparison
from policy.strategies.registry import CompareConfig
from tests.policy.conftest import ASSETS, HOURS, START, WARMUP, fill, frames

END = START + timedelta(hours=HOURS - WARMUP)
WHOLE = CompareConfig(START, END, assets=ASSETS)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("needs"), frames())


def refused(lake, config) -> str:
    with pytest.raises(NotEnoughData) as caught:
        of_comparison(lake, config)
    return str(caught.value)


def test_what_is_all_there_is_let_through(lake):
    of_comparison(lake, WHOLE)
    of_comparison(lake, replace(WHOLE, assets=None))
    of_comparison(lake, replace(WHOLE, assets=(*ASSETS, "USDC")))


@settings(max_examples=15)
@given(absent=st.sets(st.sampled_from(["XXX", "YYY", "ZZZ"]), min_size=1), gas=st.booleans())
def test_all_that_is_missing_is_named_at_once_and_nothing_else(lake, absent, gas):
    text = refused(lake, replace(WHOLE, assets=(*ASSETS, *sorted(absent)), chain_id=1 if gas else 10))
    assert {a for a in ("XXX", "YYY", "ZZZ", *ASSETS) if f"no prices of {a}:" in text} == absent
    assert ("no gas of chain 10" in text) == (not gas)
    assert text.count(";") >= len(absent) - gas
    assert "foredrift import" in text


def test_the_native_coin_is_needed_though_nobody_holds_it(lake):
    text = refused(lake, replace(WHOLE, assets=("AAA", "BBB"), native="POL"))
    assert "no prices of POL" in text
    assert "AAA" not in text


@pytest.mark.parametrize("skill", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_dial_off_its_scale_is_refused(lake, skill):
    with pytest.raises(ConfigError, match="0 to 1"):
        of_comparison(lake, replace(WHOLE, skill=skill))


def test_an_unknown_policy_is_named_with_those_there_are(lake):
    with pytest.raises(ConfigError, match=r"no policy nobodys; there are .*gas_band"):
        of_comparison(lake, replace(WHOLE, policies=("gas_band", "nobodys")))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pl.col("ts") >= END - LEAST + timedelta(hours=2), "too late for a span"),
        (pl.col("ts") < START - timedelta(hours=3), "before 2023-03-01T00:00: import later prices"),
        (pl.lit(value=False), "no prices of AAA"),
    ],
)
def test_an_asset_that_cannot_be_held_in_the_span_is_told_with_the_reason(tmp_path, rows, words):
    tables = frames()
    tables["prices"] = tables["prices"].filter((pl.col("asset") != "AAA") | rows)
    text = refused(fill(tmp_path, tables), WHOLE)
    assert words in text
    assert not any(asset in text for asset in ASSETS[1:])


def test_bars_longer_than_an_hour_and_gas_that_starts_too_late_are_told(tmp_path):
    tables = frames()
    longer = pl.when(pl.col("asset") == "BBB").then(7_200).otherwise(pl.col("step"))
    tables["prices"] = tables["prices"].with_columns(step=longer.cast(pl.Int64))
    tables["gas"] = tables["gas"].filter(pl.col("ts") >= START + timedelta(days=2))
    text = refused(fill(tmp_path, tables), WHOLE)
    assert "BBB has only bars longer than an hour" in text
    assert "gas of chain 1 starts 2023-03-03T01:00" in text
    assert "--start 2023-03-03T02:00" in text

"""The second screen: time outside the tolerances against a walk by the minute, forecasts ahead, Greeks, sentences."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.store import Lake
from pipelines.deployments import deployment
from pipelines.reports.portfolio_words import greek_words, hedge_words, keeper_words, place_words, transfer_words
from pipelines.reports.words import ago_words, as_sentence, lasting
from pipelines.settings import load
from pipelines.settlements.live_hours import VaultLook
from pipelines.stages.exposures import chains_of, greeks_of
from pipelines.stages.forecasts_ahead import drift_ahead, slippage_ahead
from pipelines.stages.outside import CARRY, MONTH, outside
from tests.pipelines.page_data import CHAINS, DATA, GREEKS

AT = datetime(2024, 3, 10, 7, 30, tzinfo=UTC)
ASSETS = ("BTC", "ETH", "USDC")
POOL = "0x" + "ab" * 20
TEXT = """
[portfolio]
assets = ["BTC", "ETH", "USDC"]
targets = [0.4, 0.4, 0.2]
tolerance = 0.03
nav_usd = 1_000_000
"""


def vault(folder, extra=""):
    file = folder / "foredrift.toml"
    file.write_text(TEXT + extra)
    return deployment(load(file))


def priced(folder, closes: dict[str, list[tuple[int, float]]]) -> Lake:
    """A lake whose prices were known ``minutes`` before AT."""
    rows = [
        {"source": "s", "asset": a, "step": 3600, "ts": AT - timedelta(minutes=m + 60), "close": p,
         "available_at": AT - timedelta(minutes=m)}
        for a, path in closes.items() for m, p in path
    ]  # fmt: skip
    lake = Lake(str(folder / "lake"))
    if rows:
        lake.write("prices", pl.DataFrame(rows))
    return lake


def look(minutes: int, weights, nav=1e6) -> VaultLook:
    w = np.asarray(weights, dtype=float)
    return VaultLook(AT - timedelta(minutes=minutes), w, w, nav, {}, {})


def walked(closes, looks, since: datetime, caps=0.03) -> tuple[int, int]:
    """Minutes outside and known from ``since`` to AT, one minute after the other."""
    target = np.array([0.4, 0.4, 0.2])
    out = known = 0
    for minute in range(int((AT - since).total_seconds() // 60), 0, -1):
        seen = [s for s in looks if AT - s.at >= timedelta(minutes=minute)]
        if not seen:
            continue
        last = max(seen, key=lambda s: s.at)
        then = round((AT - last.at).total_seconds() / 60)

        def price(asset, at):
            if asset == "USDC":
                return 1.0
            past = [(m, p) for m, p in closes[asset] if m >= at]
            newest = min(past, default=None)
            return None if newest is None or newest[0] - at >= CARRY.total_seconds() / 60 else newest[1]

        moved = [(price(a, then), price(a, minute)) for a in ASSETS]
        if any(x is None for pair in moved for x in pair):
            continue
        value = last.after * np.array([b / a for a, b in moved])
        known += 1
        out += bool((np.abs(value / value.sum() - target) > caps).any())
    return out, known


@st.composite
def histories(draw):
    """Hourly prices with holes, and sights at any minute; weights near their target."""
    closes = {}
    for asset in ("BTC", "ETH"):
        hours = draw(st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True))
        closes[asset] = [(60 * h + 5, 100 * math.exp(draw(st.floats(-0.15, 0.15)))) for h in hours]
    minutes = draw(st.lists(st.integers(1, 40 * 60), min_size=1, max_size=6, unique=True))
    looks = []
    for m in sorted(minutes, reverse=True):
        a, b = draw(st.floats(0.35, 0.45)), draw(st.floats(0.35, 0.45))
        looks.append(look(m, (a, b, 1 - a - b), draw(st.floats(1e5, 1e7))))
    return closes, looks


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_time_outside_is_that_of_a_walk_by_the_minute(tmp_path_factory, history):
    closes, looks = history
    folder = tmp_path_factory.mktemp("walk")
    found = outside(vault(folder), priced(folder, closes), looks, AT)
    for name, since in (("today", AT.replace(hour=0, minute=0)), ("days30", AT - MONTH)):
        out, known = walked(closes, looks, max(since, AT - timedelta(hours=48)))
        if known == 0:
            assert found[name] is None
        else:
            assert (found[name]["outside_min"], found[name]["known_min"]) == pytest.approx((out, known))


def test_what_was_never_seen_is_not_known_and_what_comes_later_is_not_read(tmp_path):
    lake = priced(tmp_path, {"BTC": [(600, 100.0), (-60, 900.0)], "ETH": [(600, 100.0)]})
    given = vault(tmp_path)
    assert outside(given, lake, [], AT)["days30"] is None
    assert "not known" in outside(given, lake, [], AT)["words"]
    later = look(-30, (0.9, 0.1, 0.0))
    inside = outside(given, lake, [look(500, (0.4, 0.4, 0.2)), later], AT)
    assert inside["days30"]["outside_min"] == 0
    assert inside["days30"]["known_min"] == 260  # prices stand for six hours
    assert inside["words"] == "It was never outside its tolerances in the last 30 days, of which 0.181 days are known."


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "never"),
        (0.3, "less than a minute"),
        (12, "12 min"),
        (200, "3 h 20 min"),
        (1_440, "1 d"),
        (3_120, "2 d 4 h"),
    ],
)
def test_lengths_of_time_as_people_say_them(minutes, words):
    assert lasting(minutes) == words


def test_moments_have_one_unit():
    assert [ago_words(s) for s in (4, 600, 8_000, 400_000, -600)] == [
        "4 s ago", "10 min ago", "2 h ago", "5 d ago", "in 10 min",
    ]  # fmt: skip


@given(st.text())
def test_a_sentence_ends_once_and_stays_one(text):
    said = as_sentence(text)
    assert as_sentence(said) == said
    assert not text.strip(" .") or said.endswith(".")
    assert "\n" not in said


def issued(lake, target, key, horizon_h, quantiles, hours_ago=1, abstain=False, reason=None):
    at = AT - timedelta(hours=hours_ago)
    q = dict(zip(("q05", "q25", "q50", "q75", "q95"), quantiles or (None,) * 5, strict=True))
    row = {"target": target, "key": key, "issued_at": at, "horizon_s": 3600 * horizon_h, **q, "mean": q["q50"],
           "model_version": "v", "abstain": abstain, "reason": reason, "available_at": at}  # fmt: skip
    lake.write("forecasts", pl.DataFrame([row], schema_overrides=dict.fromkeys((*q, "mean"), pl.Float64)))


ROW = {"asset": "ETH", "weight": 0.36, "target": 0.4, "low": 0.37, "high": 0.43, "outside": True, "usd": 1.0}


def test_weights_ahead_are_the_newest_drift_forecast_of_a_day(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    assert drift_ahead(lake, [ROW], AT)["words"] == "There is no forecast of drift of the last day."
    issued(lake, "drift", "ETH", 24, (-0.5, -0.4, 0.0, 0.4, 0.5), hours_ago=3)
    issued(lake, "drift", "ETH", 4, (-0.2, -0.1, 0.0, 0.1, 0.2))
    issued(lake, "drift", "ETH", 24, (-0.1, -0.05, 0.0, 0.05, 0.1))
    issued(lake, "drift", "ETH", 48, (-0.9, -0.5, 0.0, 0.5, 0.9))
    issued(lake, "drift", "LINK", 24, (-0.9, -0.5, 0.0, 0.5, 0.9))
    issued(lake, "drift", "ETH", 24, (-3.0, -2.0, 0.0, 2.0, 3.0), hours_ago=-1)
    found = drift_ahead(lake, [ROW], AT)
    assert found["hours"] == 24
    [row] = found["rows"]
    assert row["q05"] == pytest.approx(0.36 * math.exp(-0.1))
    assert row["q95"] == pytest.approx(0.36 * math.exp(0.1))
    assert row["q50"] == row["weight"] == 0.36
    assert drift_ahead(lake, [ROW], AT + timedelta(days=2))["rows"] == []


def test_a_forecast_that_abstains_says_why(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    issued(lake, "drift", "ETH", 24, None, abstain=True, reason="its model is 50 d old")
    found = drift_ahead(lake, [ROW], AT)
    assert found["rows"] == []
    assert found["words"] == "The forecast of drift abstains: its model is 50 d old."


def test_swaps_cost_what_is_forecast_for_the_size_nearest_to_the_largest_trade(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    given = vault(tmp_path, "[mandate]\nmax_turnover_bps = 1200\n")
    for size, cost in ((10_000, 5e-4), (100_000, 7e-4), (1_000_000, 30e-4)):
        for hours in (1, 24):
            issued(lake, "slippage", f"sample-ETH|{size}", hours, [cost * hours * k for k in (0.8, 0.9, 1.0, 1.2, 2.0)])
    issued(lake, "slippage", "sample-LINK|100000", 1, [1e-3] * 5)
    issued(lake, "slippage", "0xcafe|100000", 1, [2e-3] * 5)
    found = slippage_ahead(given, lake, 1e6, AT)
    assert (found["size_usd"], found["hours"]) == (100_000, 1)
    assert [(r["asset"], r["pool"]) for r in found["rows"]] == [("ETH", "sample-ETH"), (None, "0xcafe")]
    assert [found["rows"][0][q] for q in ("q05", "q50", "q95")] == pytest.approx([5.6, 7.0, 14.0])
    assert slippage_ahead(given, lake, 1e4, AT)["size_usd"] == 10_000
    own = vault(tmp_path, f'[[sources.pools]]\naddress = "{POOL}"\nasset = "ETH"\n')
    assert slippage_ahead(own, lake, 1e6, AT)["words"] == "There is no forecast of slippage of the last day."
    issued(lake, "slippage", f"{POOL}|100000", 1, [1e-3] * 5)
    [row] = slippage_ahead(own, lake, 1e6, AT)["rows"]
    assert row["asset"] == "ETH"


def test_greeks_are_those_of_the_portfolios_own_positions(tmp_path):
    given = vault(tmp_path)
    lake = priced(tmp_path, {"ETH": [(10 + 60 * h, 2_000.0) for h in range(4)]})
    assert greeks_of(given, lake, AT) is None
    assert chains_of(given, [given], lake, AT) is None
    rows = [
        {"portfolio": given.name, "position_id": name, "kind": kind, "asset": asset, "quantity": n}
        for name, kind, asset, n in (("coins", "spot", "ETH", 5.0), ("cash", "stable", "USDC", 10_000.0))
    ]
    lake.write("positions", pl.DataFrame(rows).with_columns(ts=pl.lit(AT), available_at=pl.lit(AT)))
    found = greeks_of(given, lake, AT)
    [eth] = [a for a in found["assets"] if a["asset"] == "ETH"]
    assert eth["delta_usd"] == pytest.approx(5 * 2_000)
    assert eth["net_exposure"] == pytest.approx(0.5)
    assert found["nav_usd"] == pytest.approx(20_000)
    late = greeks_of(given, lake, AT + timedelta(days=9))
    assert late["assets"] == []
    assert late["words"].startswith("The book's Greeks are not known: ")
    assert "price of ETH" in late["words"]


def test_a_hedge_account_is_said_before_its_first_decision(tmp_path):
    given = vault(tmp_path, f'[hedge]\naccount = "{POOL}"\nkeeper = "0x{"12" * 20}"\n')
    found = greeks_of(given, Lake(str(tmp_path / "lake")), AT)
    assert found["hedged"]
    assert hedge_words(found["hedge"]) == "The hedge account has decided nothing yet."
    assert "net delta of -4.1 coins was to wait: net exposure 1.2 % of NAV" in hedge_words(GREEKS["hedge"])


KEEPER = {"held": True, "fresh": True, "age_s": 4.0, "words": "", "told": {"block": 7, "order": None, "refusal": None}}


@pytest.mark.parametrize(
    ("keeper", "said"),
    [
        (KEEPER, "It is kept block by block, now at block 7."),
        ({**KEEPER, "fresh": False, "age_s": 600.0}, "The keeper is silent (its last word was of block 7, 10 min ago)"),
        ({**KEEPER, "held": False}, "Nobody keeps it block by block: scheduled runs decide."),
        ({**KEEPER, "told": {"block": 7, "order": {"cap_gwei": 14.2}}}, "An order waits for gas of 14.2 gwei or less."),
        ({**KEEPER, "told": {"block": 7, "refusal": "the lease is another's"}}, "It refuses: the lease is another's."),
        ({**KEEPER, "told": {}}, "now at no block yet"),
    ],
)
def test_the_keeper_is_told_in_sentences(keeper, said):
    words = keeper_words({**DATA, "keeper": keeper})
    assert said in words
    assert words.endswith("0.42 ETH (840 USD) is left for gas.")
    poor = keeper_words(
        {**DATA, "keeper": keeper, "gas_money": {"native": None, "usd": None, "words": "not known yet"}}
    )
    assert poor.endswith("Its gas money is not known yet.")


def test_chains_transfers_and_greeks_are_told_with_their_units():
    first, second = map(place_words, CHAINS["places"])
    assert first == "chain 1 (main): 700,000 USD, 69.7%; cash 81,000 USD of a floor of 30,000 USD"
    assert second.endswith("below its floor")
    assert transfer_words(CHAINS["under_way"][0]) == (
        "25,000 USD from chain 1 to 42161 by cctp: sent, under way for 9 min, usually 19 min"
    )
    assert greek_words(GREEKS["assets"][0]) == (
        "ETH: delta -12,400 USD (-1.2% of NAV), gamma +310,000 USD, vega -1,240 USD a point, theta +412 USD a day"
    )

"""Policies, features, forecaster families, venues and sources of somebody else's package, found by its entry points."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from features.own import installed, own_columns
from lake.errors import ConfigError, ModelError
from lake.poolstate import Constants, ticked
from lake.sources.sample import START, simulate
from lake.store import Lake
from lake.venues import ROWS, Venue, venue, venues
from models.config import ModelConfig
from models.families import FamilyRow, families
from models.gas.family import generic_features
from pipelines.settings import Settings, load
from pipelines.stages import leakage
from pipelines.wiring import families_of, sources_of
from policy import names
from policy.execution.base import Hop
from policy.execution.routing.calldata import swap
from policy.names import BOUNDS, OTHER, TRAITS, traits

CODE = """
import numpy as np
from features.own import OwnFeature
from lake.venues import Venue
from models.families import FamilyRow, SHIPPED
from policy.names import Traits
from policy.strategies.reactive import Bands

def steady(history, lake, config):
    return Bands("steady", constant=True)

steady.traits = Traits("predictive", "forecast", "#123456", reads=("drift",))
row = FamilyRow("mine", SHIPPED["gas"].family, SHIPPED["gas"].model, ("gas", "chain_id"), {"mine": ("gwei", 1.0)})

fork = Venue("fork", "pair", 2_000, "getPair(address,address)", ("swap(uint256)",), "theirs:swap")

def swap(hops, amount_in, min_out, recipient, deadline, limit):
    return b"swap" + amount_in.to_bytes(32, "big")

def usd(lake, ts):
    rows = lake.scan("gas").select("available_at", "base_fee_gwei").sort("available_at").collect()
    known = np.searchsorted(rows["available_at"].dt.epoch("us").to_numpy(), ts, side="right") - 1
    return np.where(known < 0, np.nan, rows["base_fee_gwei"].to_numpy()[known] * 2.0)

lately = OwnFeature("lately", usd)

def feed(options, settings):
    return [(options["url"], settings.portfolio.assets)]
"""
POINTS = """[foredrift.policies]
steady = theirs:steady
[foredrift.families]
mine = theirs:row
[foredrift.venues]
fork = theirs:fork
[foredrift.features]
lately = theirs:lately
[foredrift.sources]
feed = theirs:feed
"""


KEPT = (venues, installed, families, names.installed)
"""Looked through once a process."""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as pip leaves it: its module and its metadata."""
    (tmp_path / "theirs.py").write_text(CODE)
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for known in KEPT:
        known.cache_clear()
    yield
    for known in KEPT:
        known.cache_clear()


def test_a_policy_brings_its_traits(package):
    assert traits("steady").reads == ("drift",)
    assert traits("steady").colour == "#123456"
    assert traits("unheard of") == OTHER
    assert {TRAITS[n].role for n in BOUNDS} == {"bound"}


def test_a_family_joins_those_that_are_trained_read_and_shown(package):
    assert list(families_of()) == ["gas", "drift", "slippage", "mine"]
    assert families()["mine"].reader() is families()["gas"].reader()
    assert families()["mine"].units == {"mine": ("gwei", 1.0)}


def test_a_family_must_be_a_row_with_a_name_of_its_own(package, monkeypatch):
    import theirs

    monkeypatch.setattr(theirs, "row", replace(theirs.row, name="gas"))
    families.cache_clear()
    with pytest.raises(ConfigError, match="'mine' of foredrift.families"):
        families()
    monkeypatch.setattr(theirs, "row", "no row")
    families.cache_clear()
    with pytest.raises(ConfigError, match="FamilyRow"):
        families()


def test_shipped_families_and_their_rows_agree():
    for name, row in families().items():
        assert isinstance(row, FamilyRow)
        family = row.make()
        assert family.name == name
        assert set(row.units) <= {t.name for t in family.targets}
        assert hasattr(row.reader(), "load")


def test_a_source_is_made_from_its_table_of_options(package, tmp_path):
    file = tmp_path / "foredrift.toml"
    file.write_text("[sources.own.feed]\nurl = 'https://example.org'\n")
    assert sources_of(load(file)) == [("https://example.org", load(file).portfolio.assets)]
    file.write_text("[sources.own.other]\n")
    with pytest.raises(ConfigError, match=r"\[sources.own\] other: no installed package has it \(installed: feed\)"):
        sources_of(load(file))


def test_a_venue_is_known_to_settings_readers_and_calls(package, tmp_path):
    address = "0x" + "1" * 40
    file = tmp_path / "foredrift.toml"
    file.write_text(f'[[sources.pools]]\naddress = "{address}"\nasset = "ETH"\nvenue = "fork"\n')
    assert load(file).sources.pools[0].venue == "fork"
    assert not ticked(Constants(address, "fork", address, address, 2_000, 0))
    hop = Hop("fork", address, "0x" + "2" * 40, "0x" + "3" * 40, 2_000)
    assert swap([hop], 7, 6, address, 2**40) == b"swap" + (7).to_bytes(32, "big")
    file.write_text(f'[[sources.pools]]\naddress = "{address}"\nasset = "ETH"\nvenue = "forc"\n')
    with pytest.raises(
        ConfigError, match=r"no venue; did you mean 'fork'\? \(known: uniswap_v2, uniswap_v3, .*, fork\)"
    ):
        load(file)


def test_a_venue_must_be_a_row_with_a_name_of_its_own(package, monkeypatch):
    import theirs

    for wrong in (replace(theirs.fork, name="uniswap_v2"), "no row"):
        venues.cache_clear()
        monkeypatch.setattr(theirs, "fork", wrong)
        with pytest.raises(ConfigError, match="'fork' of foredrift.venues must name a Venue"):
            venues()


@pytest.mark.parametrize(
    "wrong", [{"curve": "stable"}, {"calls": ()}, {"fee_pips": None}, {"fee_pips": -1}, {"fee_pips": 1_000_000}]
)
def test_a_venue_nothing_could_be_quoted_by_is_refused(wrong):
    with pytest.raises(ConfigError, match="venue uniswap_v2"):
        replace(ROWS[0], **wrong)
    assert venue("uniswap_v2") == ROWS[0]
    assert isinstance(venue("uniswap_v3"), Venue)
    with pytest.raises(ConfigError, match="venue 'nope': a venue is uniswap_v2 or uniswap_v3"):
        venue("nope")


@pytest.fixture
def market(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    for name, rows in simulate(hours=24 * 40).items():
        lake.write(name, rows)
    return lake


def test_a_feature_joins_the_gas_family_and_is_the_same_for_one_decision(package, market):
    family, cfg = families()["gas"].make(), ModelConfig(assets=("BTC", "ETH"))
    end = START + timedelta(days=36)
    panel = family.build(market, cfg, end - timedelta(days=2), end)
    assert "own_lately" in generic_features(panel)
    one = family.now(market, cfg, end - timedelta(hours=5))
    assert one.column("own_lately")[0] == panel.filter(pl.col("ts") == end - timedelta(hours=5))["own_lately"][0]
    assert one.column("own_lately")[0] == pytest.approx(2 * one.column("b|now_gwei")[0])
    assert len(family.build(market, cfg, end, end).rows()) == 0


def test_a_feature_that_looks_ahead_is_found(package, market, monkeypatch):
    import theirs

    settings = Settings()
    moment = START + timedelta(days=30)
    _, leaks = leakage.features(settings, market, [families()["gas"].make()], [moment])
    assert leaks == []

    def peeking(lake, ts):
        return theirs.usd(lake, ts + 3_600_000_000)

    monkeypatch.setattr(theirs, "lately", replace(theirs.lately, values=peeking))
    installed.cache_clear()
    _, leaks = leakage.features(settings, market, [families()["gas"].make()], [moment])
    assert {leak.split(" at ")[0] for leak in leaks} == {"feature gas.own_lately"}


@pytest.mark.parametrize(
    "values", [lambda _, ts: ts[1:] * 1.0, lambda _, ts: ts, lambda _, ts: ts / 0.0, lambda _, ts: [None] * len(ts)]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_feature_of_another_shape_is_named(package, monkeypatch, values):
    import theirs

    monkeypatch.setattr(theirs, "lately", replace(theirs.lately, values=values))
    installed.cache_clear()
    with pytest.raises(ModelError, match="feature lately gave"):
        own_columns(None, np.arange(1, 4) * 3_600_000_000)


def test_a_feature_must_be_one_with_a_name_of_its_own(package, monkeypatch):
    import theirs

    for wrong in (replace(theirs.lately, name="two words"), "no feature"):
        installed.cache_clear()
        monkeypatch.setattr(theirs, "lately", wrong)
        with pytest.raises(ConfigError, match="'lately' of foredrift.features must name an OwnFeature"):
            installed()

"""Policies, forecaster families, venues and sources of somebody else's package, found by its entry points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lake.errors import ConfigError
from lake.poolstate import Constants, ticked
from lake.venues import ROWS, Venue, venue, venues
from models.families import FamilyRow, families
from pipelines.settings import load
from pipelines.wiring import families_of, sources_of
from policy.execution.base import Hop
from policy.execution.routing.calldata import swap
from policy.names import BOUNDS, OTHER, TRAITS, traits

CODE = """
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

def feed(options, settings):
    return [(options["url"], settings.portfolio.assets)]
"""
POINTS = """[foredrift.policies]
steady = theirs:steady
[foredrift.families]
mine = theirs:row
[foredrift.venues]
fork = theirs:fork
[foredrift.sources]
feed = theirs:feed
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as pip leaves it: its module and its metadata."""
    (tmp_path / "theirs.py").write_text(CODE)
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    venues.cache_clear()
    yield
    venues.cache_clear()


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
    with pytest.raises(ConfigError, match="'mine' of foredrift.families"):
        families()
    monkeypatch.setattr(theirs, "row", "no row")
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
    with pytest.raises(ConfigError, match=r"no venue; did you mean 'fork'\? \(known: uniswap_v2, uniswap_v3, fork\)"):
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

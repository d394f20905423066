"""Policies, forecaster families and sources of somebody else's package, found by its entry points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lake.errors import ConfigError
from models.families import FamilyRow, families
from pipelines.settings import load
from pipelines.wiring import families_of, sources_of
from policy.names import BOUNDS, OTHER, TRAITS, traits

CODE = """
from models.families import FamilyRow, SHIPPED
from policy.names import Traits
from policy.strategies.reactive import Bands

def steady(history, lake, config):
    return Bands("steady", constant=True)

steady.traits = Traits("predictive", "forecast", "#123456", reads=("drift",))
row = FamilyRow("mine", SHIPPED["gas"].family, SHIPPED["gas"].model, ("gas", "chain_id"), {"mine": ("gwei", 1.0)})

def feed(options, settings):
    return [(options["url"], settings.portfolio.assets)]
"""
POINTS = """[foredrift.policies]
steady = theirs:steady
[foredrift.families]
mine = theirs:row
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

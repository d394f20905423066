"""Evidence lets a surface decide, keeps it out, or is refused: by its least stake, its age, its hash."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reports.surfaces import surface_words
from policy.realtime.proof import LIFE_S, PROVEN, Proof, proof_of

NOW = 1_700_000_000
GOOD = Proof("t", NOW - 86_400, 20, {"gas_band": 9.0, "gas_band_5m": 5.0}, {"gas_band": 0.2, "gas_band_5m": 0.1})


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=3))
def test_the_least_stake_decides(values):
    stakes = {f"rule {i}": v for i, v in enumerate(values)}
    found = replace(GOOD, stakes=stakes, saved=dict.fromkeys(stakes, 0.0))
    assert found.decides == all(v > PROVEN for v in values)
    assert (found.refused(NOW) is None) == found.decides


@given(st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False), max_size=3))
def test_what_a_manifest_holds_is_read_back(stakes):
    found = replace(GOOD, stakes=stakes, saved=stakes)
    assert proof_of(found.json()) == found
    assert proof_of(found.json()).digest == found.digest


@pytest.mark.parametrize(
    ("name", "value"),
    [("terms", "u"), ("until_s", NOW), ("weeks", 21), ("stakes", {"gas_band": 10.0}), ("saved", {"gas_band": 0.3})],
)
def test_its_hash_is_of_all_it_says(name, value):
    other = replace(GOOD, **{name: value})
    assert other.digest != GOOD.digest
    with pytest.raises(ValueError, match="not its hash"):
        proof_of(GOOD.json() | {name: value})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_number_is_no_evidence(bad):
    with pytest.raises(ValueError, match="without numbers"):
        proof_of(replace(GOOD, stakes={"gas_band": bad}).json())


@pytest.mark.parametrize(
    ("proof", "at", "words"),
    [
        (GOOD, NOW, None),
        (GOOD, GOOD.until_s + LIFE_S, None),
        (GOOD, GOOD.until_s + LIFE_S + 1, "ends 16.0 d ago"),
        (GOOD, GOOD.until_s - 1, "ends -0.0 d ago"),
        (replace(GOOD, stakes={}, saved={}, weeks=0), NOW, "0 whole weeks are recorded"),
        (replace(GOOD, stakes={"gas_band": 9.0, "gas_band_5m": 0.4}), NOW, "against gas_band_5m .* become 0.40"),
    ],
)
def test_it_says_in_words_why_no_surface_decides(proof, at, words):
    found = proof.refused(at)
    assert (found is None) == (words is None)
    if found is not None:
        assert re.search(words, found)


def test_status_says_what_decides_and_on_what_evidence():
    told = surface_words({"hash": "ab" * 32, "evidence": GOOD.json()})
    assert told.startswith("abababababab decides; stakes (and savings) in 20 weeks against gas_band 9.00 (+20.0%)")
    assert "does not decide; old" in surface_words({"refused": "old", "evidence": GOOD.json()})

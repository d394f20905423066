"""Every kind of value a setting can have: what is taken, and what a refusal says without showing a secret."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lake.errors import ConfigError
from lake.units import LONGEST_S
from pipelines.collisions import collision
from pipelines.sections import ChainSection, VaultSection
from pipelines.setting_sources import explained, from_environment, merged
from pipelines.setting_types import (
    Address,
    ChainId,
    Cron,
    Distinct,
    Duration,
    FallbackPolicy,
    FolderName,
    LivePolicy,
    Name,
    PolicyName,
    PositiveDuration,
    SecretUrl,
    Url,
    VenueName,
    Zone,
    nearest,
)
from pipelines.settings import Settings


class Kinds(BaseModel):
    address: Address = "0x" + "1" * 40
    chain: ChainId = 1
    cron: Cron = "6 * * * *"
    duration: Duration = "1h"
    positive: PositiveDuration = "1h"
    folder: FolderName = "main"
    name: Name = "main"
    policy: PolicyName = "hold"
    live: LivePolicy = "gas_band"
    fallback: FallbackPolicy = "gas_band"
    url: Url = "https://a"
    node: SecretUrl = "https://a"
    venue: VenueName = "uniswap_v3"
    zone: Zone = "UTC"


WRONG = {
    "address": [
        ("0x12", "no address"),
        ("1" * 42, "no address"),
        ("0x" + "0" * 40, "zero address"),
        ("0x" + "g" * 40, ""),
    ],
    "chain": [(2, "not known (known: 1 (ethereum)"), (0, "not known")],
    "cron": [("* * * *", "cron"), ("61 * * * *", "cron"), ("0 0 31 2 *", "cron"), ("", "cron"), ("hourly", "cron")],
    "duration": [
        ("1", "length of time"),
        ("h", "length of time"),
        ("-1h", "length of time"),
        ("1.5h", "length of time"),
    ],
    "positive": [("0s", "longer than nothing"), ("00d", "longer than nothing"), ("x", "length of time")],
    "folder": [("../x", "deployment"), ("", "deployment"), ("-x", "deployment"), ("a" * 65, "deployment")],
    "name": [("", "no name"), (" a", "no name"), ("a\x07", "no name")],
    "policy": [("gas_bund", "did you mean 'gas_band'"), ("", "known: ")],
    "live": [("clairvoyant", "policy that can decide")],
    "fallback": [("predictive", "policy without forecasts")],
    "url": [("localhost:1", "begins with http"), ("http://a b", "begins with http")],
    "venue": [("uniswap_v4", "did you mean 'uniswap_v"), ("", "known: uniswap_v2")],
    "zone": [("Mars/Base", "no time zone"), ("utc ", "no time zone")],
}


@pytest.mark.parametrize(("field", "given_value", "words"), [(f, g, w) for f, rows in WRONG.items() for g, w in rows])
def test_what_is_wrong_is_said_with_what_is_wanted(field, given_value, words):
    with pytest.raises(ValidationError) as caught:
        Kinds(**{field: given_value})
    said = explained(Kinds, caught.value, "foredrift.toml", {})
    assert said.startswith("the configuration is not valid: ")
    assert f"{field} in foredrift.toml" in said
    assert words in said
    assert "\n" not in said


@given(digits=st.text(string.hexdigits, min_size=40, max_size=40).filter(lambda t: int(t, 16)))
def test_any_forty_digits_but_zero_are_an_address(digits):
    assert Kinds(address="0x" + digits).address == "0x" + digits


@given(number=st.integers(0, 999_999), unit=st.sampled_from("smhdw"))
def test_any_whole_number_with_its_unit_is_a_length_of_time_up_to_200_years(number, unit):
    if number * {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[unit] <= LONGEST_S:
        assert Kinds(duration=f"{number}{unit}").duration == f"{number}{unit}"
    else:
        with pytest.raises(ValidationError, match="200 years"):
            Kinds(duration=f"{number}{unit}")


@given(secret=st.text(string.ascii_letters + string.digits, min_size=8, max_size=30))
def test_an_address_that_may_hold_a_key_is_never_shown_right_or_wrong(secret):
    made = Kinds(node=f"https://node/{secret}")
    assert secret not in repr(made)
    with pytest.raises(ValidationError) as caught:
        Kinds(node=f"node {secret}")
    assert secret not in explained(Kinds, caught.value, "f", {})


class Several(BaseModel):
    rows: tuple[int, ...] = ()
    names: list[str] = []

    @classmethod
    def of(cls, values):
        return Distinct.func(tuple(values))


@given(values=st.lists(st.integers(0, 5), max_size=8))
def test_a_list_of_distinct_values_names_those_that_stand_there_twice(values):
    if len(set(values)) == len(values):
        assert Several.of(values) == tuple(values)
        return
    with pytest.raises(ValueError, match="stands here more than once") as caught:
        Several.of(values)
    assert any(str(v) in str(caught.value) for v in values if values.count(v) > 1)


@pytest.mark.parametrize(
    ("given_value", "hint"),
    [("gasband", "'gas_band'"), ("GAS_BAND", "'gas_band'"), ("zzz", ""), ("", "")],
)
def test_the_nearest_known_name_is_offered_where_one_is_near(given_value, hint):
    assert nearest(given_value, ["gas_band", "hold"]) == (f"; did you mean {hint}?" if hint else "")


VARIABLES = {
    "FOREDRIFT_LAKE__PATH": ("there.data", ("lake", "path", "there.data")),
    "FOREDRIFT_PORTFOLIO__ASSETS": ("BTC, ETH", ("portfolio", "assets", ("BTC", "ETH"))),
    "FOREDRIFT_CHAIN__ID": ("10", ("chain", "id", "10")),
    "FOREDRIFT_MODELS__TRAIN_WINDOW": ("none", ("models", "train_window", None)),
    "FOREDRIFT_VAULT__TOKENS": ('{"ETH": "0x1"}', ("vault", "tokens", {"ETH": "0x1"})),
    "FOREDRIFT_COMPARE__NAV_USD": ("[1e5, 1e6]", ("compare", "nav_usd", [1e5, 1e6])),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_reaches_the_setting_it_is_named_after(variable):
    text, (section, key, value) = VARIABLES[variable]
    assert from_environment(Settings, {variable: text, "PATH": "/bin", "FOREDRIFT_REPLAY": "x"}) == {
        section: {key: value}
    }


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("FOREDRIFT_LAKE__PTH", "x", "there is no pth in [lake]; did you mean 'FOREDRIFT_LAKE__PATH'?"),
        ("FOREDRIFT_LAKES__PATH", "x", "there is no lakes in the settings"),
        ("FOREDRIFT_LAKE__PATH__X", "x", "one too many"),
        ("FOREDRIFT_VAULT__TOKENS", "ETH=0x1", "a table is JSON"),
        ("FOREDRIFT_COMPARE__NAV_USD", "[1e5,", "a list is JSON"),
    ],
)
def test_a_variable_that_is_wrong_is_named(variable, text, words):
    with pytest.raises(ConfigError) as caught:
        from_environment(Settings, {variable: text})
    assert variable in str(caught.value)
    assert words in str(caught.value)


def test_every_wrong_variable_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        from_environment(Settings, {"FOREDRIFT_LAKE__A": "1", "FOREDRIFT_CHAIN__B": "2"})
    assert {"FOREDRIFT_LAKE__A", "FOREDRIFT_CHAIN__B"} <= set(str(caught.value).replace(":", "").split())


tables = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).filter(lambda x: isinstance(x, dict))


@given(file=tables, environment=tables)
def test_the_environment_stands_over_the_file_key_by_key(file, environment):
    found = merged(file, environment)
    assert set(found) == set(file) | set(environment)
    for key, value in environment.items():
        below = file.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        assert found[key] == (merged(below, value) if both else value)
    assert merged(found, environment) == found


ONE, TWO = "0x" + "1" * 40, "0x" + "2" * 40


def member(name: str, chain_id: int = 1, **vault: str):
    return name, ChainSection(id=chain_id), VaultSection(**vault)


def files(n: int) -> dict[str, str]:
    return {"journal": f"j{n}", "audit": f"a{n}"}


APART = [member("a", kind="reference", address=ONE, keeper=ONE, **files(1)), member("b", kind="simulated", **files(2))]
SHARED = {
    "are called A": [member("A", **files(1)), member("a", **files(2))],
    "can be called foredrift": [member("a", **files(1)), member("foredrift", **files(2))],
    "share the file": [member("a", journal="x", audit="a1"), member("b", journal="./x", audit="a2")],
    "share vault": [member(n, kind="reference", address=ONE, **files(i)) for i, n in enumerate("ab")],
    "share keeper": [
        member("a", kind="reference", address=ONE, keeper=ONE, **files(1)),
        member("b", kind="reference", address=TWO, keeper=ONE, **files(2)),
    ],
    "share keystore": [
        member("a", kind="reference", address=ONE, keystore="k", **files(1)),
        member("b", kind="reference", address=TWO, keystore="k", **files(2)),
    ],
}


@pytest.mark.parametrize("words", SHARED)
def test_what_two_deployments_share_is_named(words):
    said = collision([(n, c, v) for n, c, v in SHARED[words]], Path("/project"))
    assert words in said


def test_deployments_apart_stand_beside_each_other_and_one_key_may_serve_two_chains():
    root = Path("/project")
    assert collision(APART, root) == ""
    states = [
        member("a", kind="simulated", state="s1", **files(1)),
        member("b", kind="simulated", state="s2", **files(2)),
    ]
    assert collision(states, root) == ""
    chains = [member(n, c, kind="reference", address=ONE, keeper=ONE, **files(c)) for n, c in (("a", 1), ("b", 10))]
    assert collision(chains, root) == ""

"""Every setting with a bound, a list of words or a form: inside it loads, outside it is refused by name.

The settings are walked as they are declared, so a new one is held to this without a line here. What is refused in the
file is refused in the environment too, by the variable's name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from lake.errors import ConfigError
from pipelines.settings import Settings, load


@dataclass(frozen=True)
class Leaf:
    """One setting: its section's path and name, its plain type, and what it is bound by."""

    path: tuple[str, ...]
    annotation: Any
    bounds: tuple[Any, ...]

    @property
    def id(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        return "FOREDRIFT_" + "__".join(self.path).upper()

    def file(self, folder: Path, value: object) -> Path:
        """Write a settings file that gives ``value`` here and nothing else."""
        *section, key = self.path
        text = json.dumps(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
        out = folder / "foredrift.toml"
        out.write_text(f"{self.before}[{'.'.join(section)}]\n{key} = {text}\n")
        return out

    @property
    def before(self) -> str:
        """What a settings file needs ahead of this section."""
        return "chains = [{ id = 1 }, { id = 10 }]\n" if self.path[0] == "transfers" else ""

    def empty(self, folder: Path) -> Path:
        """Write a settings file that leaves this setting alone."""
        out = folder / "empty.toml"
        out.write_text(self.before)
        return out


def parts(annotation: Any) -> Iterator[Any]:
    """Yield the plain types among what an annotation accepts."""
    if get_origin(annotation) is Annotated:
        yield from parts(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for one in get_args(annotation):
            yield from parts(one)
    else:
        yield annotation


def marks(annotation: Any) -> Iterator[Any]:
    """Yield what is written beside a type: bounds and checks."""
    if get_origin(annotation) is Annotated:
        first, *more = get_args(annotation)
        yield from more
        yield from marks(first)
    elif get_origin(annotation) in {Union, UnionType}:
        for one in get_args(annotation):
            yield from marks(one)


def leaves(model: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield every setting that one value gives, of sections that are there once."""
    for name, field in model.model_fields.items():
        section = next((p for p in parts(field.annotation) if isinstance(p, type) and issubclass(p, BaseModel)), None)
        if section is not None:
            yield from leaves(section, (*path, name))
        elif path:
            yield Leaf((*path, name), field.annotation, (*field.metadata, *marks(field.annotation)))


LEAVES = list(leaves())
NUMBERS = [leaf for leaf in LEAVES if {int, float} & set(parts(leaf.annotation))]
BOUND = [leaf for leaf in NUMBERS if any(isinstance(b, Ge | Gt | Le | Lt) for b in leaf.bounds)]
WORDS = [leaf for leaf in LEAVES if any(get_origin(p) is Literal for p in parts(leaf.annotation))]
FLAGS = [leaf for leaf in LEAVES if bool in set(parts(leaf.annotation))]
NEEDS = {"vault.auctions": 'venues = ["cow"]'}
"""What a section that is absent at first needs beside the one setting that is tried."""


def ids(found: list[Leaf]) -> dict[str, Any]:
    return {"argvalues": found, "ids": [leaf.id for leaf in found]}


def outside(leaf: Leaf) -> list[float]:
    """Return values just outside the bounds, whole where the setting is."""
    whole = float not in set(parts(leaf.annotation))
    step = 1 if whole else 1e-6
    found = []
    for b in leaf.bounds:
        if isinstance(b, Gt):
            found.append(b.gt)
        elif isinstance(b, Ge):
            found.append(b.ge - step)
        elif isinstance(b, Lt):
            found.append(b.lt)
        elif isinstance(b, Le):
            found.append(b.le + step)
    return found


def inside(leaf: Leaf) -> list[float]:
    """Return the bounds themselves where they belong to what is taken."""
    return [b.ge if isinstance(b, Ge) else b.le for b in leaf.bounds if isinstance(b, Ge | Le)]


def settings_with(leaf: Leaf, folder: Path, value: object) -> Settings:
    file = leaf.file(folder, value)
    needed = NEEDS.get(".".join(leaf.path[:-1]))
    if needed and not needed.startswith(leaf.path[-1]):
        file.write_text(file.read_text() + needed + "\n")
    return load(file)


def refused(leaf: Leaf, folder: Path, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that file and environment both refuse ``value`` by name, in one line."""
    with pytest.raises(ConfigError) as by_file:
        settings_with(leaf, folder, value)
    assert f"{leaf.id} in " in str(by_file.value)
    file = leaf.empty(folder)
    with monkeypatch.context() as patched:
        patched.setenv(leaf.variable, str(value))
        with pytest.raises(ConfigError, match=f"{leaf.variable}: ") as by_variable:
            load(file)
    for error in (by_file, by_variable):
        assert "\n" not in str(error.value) or str(error.value).startswith("the configuration is not valid:\n")


def value_of(settings: Settings, leaf: Leaf) -> Any:
    found: Any = settings
    for name in leaf.path:
        found = getattr(found, name)
    return found


def test_the_walk_meets_the_settings():
    found = {leaf.id for leaf in LEAVES}
    assert {"portfolio.gamma", "vault.auctions.start_bp", "sources.sample.hours", "mandate.max_turnover_bps"} <= found
    assert len(BOUND) > 40
    assert len(WORDS) > 5


@pytest.mark.parametrize("leaf", **ids(BOUND))
def test_a_number_beyond_its_bound_is_refused_and_the_bound_itself_taken(leaf, tmp_path, monkeypatch):
    for value in outside(leaf):
        refused(leaf, tmp_path, value, monkeypatch)
    for value in inside(leaf):
        assert value_of(settings_with(leaf, tmp_path, value), leaf) == value


@pytest.mark.parametrize("leaf", **ids([n for n in NUMBERS if str not in set(parts(n.annotation))]))
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_setting_is_a_number_that_is_none(leaf, value, tmp_path, monkeypatch):
    refused(leaf, tmp_path, float(value), monkeypatch)


@pytest.mark.parametrize("leaf", **ids(WORDS))
def test_a_word_that_is_none_is_refused_with_those_there_are(leaf, tmp_path, monkeypatch):
    [words] = [get_args(p) for p in parts(leaf.annotation) if get_origin(p) is Literal]
    for word in words:
        if isinstance(word, str):
            with pytest.raises(ConfigError) as error:
                settings_with(leaf, tmp_path, word + "e")
            if tuple not in {get_origin(p) for p in parts(leaf.annotation)}:
                assert f"did you mean {word!r}?" in str(error.value)
    refused(leaf, tmp_path, "x" * 30, monkeypatch)


@pytest.mark.parametrize("leaf", **ids(FLAGS))
def test_a_switch_is_on_or_off_from_file_and_environment_alike(leaf, tmp_path, monkeypatch):
    refused(leaf, tmp_path, "perhaps", monkeypatch)
    file = leaf.empty(tmp_path)
    for text, value in (("true", True), ("false", False)):
        assert value_of(settings_with(leaf, tmp_path, value), leaf) is value
        monkeypatch.setenv(leaf.variable, text)
        assert value_of(load(file), leaf) is value
        monkeypatch.delenv(leaf.variable)


@pytest.mark.parametrize("leaf", **ids([leaf for leaf in LEAVES if len(leaf.path[-1]) > 4]))
def test_a_name_written_wrong_is_met_by_the_right_one(leaf, tmp_path, monkeypatch):
    wrong = Leaf((*leaf.path[:-1], leaf.path[-1] + "x"), leaf.annotation, leaf.bounds)
    said = f"{wrong.id} in .*: there is no such setting; did you mean '{leaf.path[-1]}'"
    with pytest.raises(ConfigError, match=said):
        settings_with(wrong, tmp_path, 1)
    file = leaf.empty(tmp_path)
    monkeypatch.setenv(wrong.variable, "1")
    with pytest.raises(ConfigError, match=f"{wrong.variable}: there is no .*; did you mean '{leaf.variable}'"):
        load(file)


HALF = '[chain]\nid = 1\n[portfolio]\nassets = ["USDC", "ETH"]\n'
TWO = 'chains = [{ id = 1 }, { id = 10 }]\n[portfolio]\nassets = ["USDC", "ETH"]\n'
BRIDGE = 'bridges = [{ kind = "cctp", from = 1, to = 10, REST }]\n' + TWO


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[portfolio]\nassets = ["A", "B"]\ntargets = [0.5, -0.5]', "targets must be positive and sum to 1"),
        ('[portfolio]\nassets = ["A", "B"]\ntolerance = [0.1]', "one per asset .5 % is 0.05."),
        ('[portfolio]\nassets = ["A", "B"]\ntolerance = [0.1, 1.0]', "between 0 and 1"),
        ('[deploy]\ndelay = "59m"', "deploy.delay is 1h to 30d, got 59m"),
        ('[deploy]\ndelay = "31d"', "deploy.delay is 1h to 30d, got 31d"),
        ('[deploy]\nowner = "a.json"\nguardian = "a.json"', "keys of two people: name two keystores"),
        (f'[deploy]\nname = "{"n" * 65}"', "deploy.name has at most 64 characters, deploy.symbol 32"),
        (f'[deploy]\nsymbol = "{"s" * 33}"', "deploy.symbol 32"),
        ("[hedge]\ngamma = 1\ndelta_limit = 0.1", r"gamma .a soft mandate. and delta_limit .a hard one.; give one"),
        ('[hedge]\nevery = "59s"', "from 1m to 1h, or 12s for every block"),
        ('[hedge]\nevery = "2h"', "from 1m to 1h, or 12s for every block"),
        ('[[positions]]\nportfolio = "p"\nholder = "0x' + "1" * 40 + '"\nv3_ids = [1]', "set v3_manager"),
        ("chains = 1", "chains is a list of tables: write \\[\\[chains\\]\\] once for each chain"),
        ("chains = [1, 2]", "chains is a list of tables"),
        ("chains = [{ id = 1 }]", "has one row; two or more make a portfolio of several chains"),
        ("chains = [{ id = 1 }, { id = 10 }]\n[chain]\nid = 1", "exclude each other: move it into the first row"),
        ("chains = [{ id = 1, live = true }, { id = 10 }]", "the first chain's is .schedule. live; move it there"),
        ("chains = [{ id = 1 }, { id = 10, rpc_url = 'x' }]", "chains.1.rpc_url: there is no such setting; did"),
        ("chains = [{ id = 1 }, { id = 1 }]", "1 is given twice; a portfolio has one vault on a chain|are called"),
        ("[transfers]\nmax_open = 2", "needs two or more \\[\\[chains\\]\\]"),
        ('transfers = { overdue = { cctpp = "1h" } }\n' + TWO, "'cctpp' is no kind of bridge; did you mean 'cctp'"),
        (BRIDGE.replace("REST", "token = 'USDT'"), "'USDT' is none of portfolio.assets; did you mean 'USDC'"),
        (BRIDGE.replace("REST", "speed = 'fast'"), 'set allow_unfinal = true or "final"'),
        (BRIDGE.replace("REST", "paper = 'expires'"), 'a cctp transfer never expires; "expires" is for across'),
        (BRIDGE.replace("to = 10, REST", "to = 1"), "from and to are the same chain 1; name two"),
        (BRIDGE.replace("to = 10, REST", "to = 8453"), "to: 8453 is none of .*chains.* .1, 10."),
        (HALF + '[[deployments]]\nname = "x"\nportfolio = { name = "y" }', "cannot call its portfolio y; leave that"),
        (HALF + '[[deployments]]\nname = "foredrift"', "no further deployment can be called foredrift"),
        (HALF + '[[deployments]]\nname = "Main"', "two deployments are called"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_each_other_say_which_and_what_to_do(tmp_path, text, words):
    file = tmp_path / "foredrift.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(file)


def test_two_routes_of_one_chain_have_two_numbers(tmp_path):
    row = '{{ kind = "cctp", from = 1, to = 10, route = {} }}'
    file = tmp_path / "foredrift.toml"
    file.write_text(f"bridges = [{row.format(1)}, {row.format(1)}]\n{TWO}")
    with pytest.raises(ConfigError, match="route 1 of chain 1 is bridges.0's already"):
        load(file)
    file.write_text(f"bridges = [{row.format(1)}, {row.format(2)}]\n{TWO}")
    assert [b.route for b in load(file).bridges] == [1, 2]


def test_a_settings_file_that_cannot_be_read_says_so(tmp_path):
    folder = tmp_path / "foredrift.toml"
    folder.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(folder)
    file = tmp_path / "bytes.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(file)

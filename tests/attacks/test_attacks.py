"""The short attacks of every family are held; the table says what each took from the first release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.attacks import families
from tests.attacks.__main__ import BEFORE, Stage, main, row, run
from tests.attacks.outcome import Attack, Outcome, joined

ALL = families()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)


def marks(attack: Attack) -> list[pytest.MarkDecorator]:
    return [pytest.mark.chain] if attack.needs in {"vault", "listed", "auctions"} else []


@pytest.mark.parametrize(
    "attack", [pytest.param(a, id=a.key, marks=marks(a)) for a in ALL if a.short and a.needs != "server"]
)
def test_it_is_held(stage, attack):
    found = run(attack, stage)
    assert found.held, found.figure


def test_every_attack_has_a_name_of_its_own_and_a_figure_of_the_first_release():
    keys = [a.key for a in ALL]
    assert len(set(keys)) == len(keys)
    assert set(BEFORE) == set(keys)
    for figures in BEFORE.values():
        assert figures["figure"]
        assert figures["how"] in {"run", "recorded"}


def test_a_broken_or_successful_attack_is_not_held(tmp_path, capsys):
    def broken(_):
        raise ValueError("no such thing")

    with ExitStack() as stack:
        found = run(Attack("x", "y", "folder", broken), Stage(stack))
        assert not found.held
        assert "ValueError" in found.figure
    assert "no such thing" in capsys.readouterr().err
    parts = [Outcome(held=True, figure="a"), Outcome(held=False, figure="b", harm=2.0)]
    assert joined(parts, 1) == Outcome(held=False, figure="b", harm=2.0)
    assert row(ALL[0], found)["held"] is False


def test_the_table_is_readable_at_80_columns_and_written_as_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "table.json"
    assert main(["--only", "L7", "held: key", "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "2 attacks, 2 held" in shown
    assert {r["attack"] for r in json.loads(file.read_text())} == {"L7 open keystore", "held: key in print"}

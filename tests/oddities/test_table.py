"""A seeded part of the conformance table, and the page that is made from the whole of it."""

from __future__ import annotations

import random

import pytest

from tests.oddities import kit, table

PART = random.Random(11).sample(table.KINDS, 4)


@pytest.mark.chain
def test_a_part_of_the_table_holds_with_every_adapter():
    found = list(table.rows(PART, kit.available()))
    assert len(found) == len(PART) * len(kit.available())
    assert not [(r.odd.name, r.adapter, r.wrong, r.words) for r in found if r.wrong]


def test_the_page_says_what_the_table_demands():
    assert table.PAGE.read_text(encoding="utf-8") == table.page(table.KINDS, tuple(kit.ADAPTERS)), (
        "python -m tests.oddities.table --write"
    )

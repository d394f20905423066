"""The table of adapters is made from plans that landed."""

from __future__ import annotations

import pytest

from pipelines.stages.vault import RULES
from tests.laws.conformance import PAGE, PLANS, measured, of_page, table
from tests.laws.test_vault import LABS, MARKETS, both


def test_a_row_is_a_plan_that_landed_with_what_its_vault_enforces():
    found = measured("simulated")
    text = table([found])
    assert found.legs > 0
    assert min(found.gas) > 21_000
    assert text.count("\n| ") == 4 + len(RULES) + 1
    assert "| a stolen keeper's key takes in a day | 200 bp |" in text


@pytest.mark.chain
def test_the_page_shows_the_table_as_it_is_printed():
    shown = of_page(PAGE.read_text(encoding="utf-8")).splitlines()
    with MARKETS:
        found = [measured(name) for name in LABS]
    both.cache_clear()
    made = table(found).splitlines()
    for i, words in enumerate(PLANS):
        gas = next(n for n, line in enumerate(made) if line.startswith(f"| {words} |"))
        stated = [int(cell.replace(",", "")) for cell in shown.pop(gas).strip("| ").split(" | ")[1:]]
        seen = [row.gas[i] for row in found]
        assert stated == pytest.approx(seen, rel=0.02), "python -m tests.laws.conformance --write"
        made.pop(gas)
    assert shown == made, "python -m tests.laws.conformance --write"

"""The table of adapters is made from plans that landed."""

from __future__ import annotations

from pipelines.stages.vault import RULES
from tests.laws.conformance import measured, table


def test_a_row_is_a_plan_that_landed_with_what_its_vault_enforces():
    found = measured("simulated")
    text = table([found])
    assert found.legs > 0
    assert found.gas > 21_000
    assert text.count("\n| ") == 3 + len(RULES) + 1
    assert "| a stolen keeper's key takes in a day | 200 bp |" in text

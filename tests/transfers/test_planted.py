"""Every planted mistake is impossible or refused by name, and the document's table is the one these runs make."""

from __future__ import annotations

from pathlib import Path

from tests.transfers.planted import MISTAKES, table

DOC = Path(__file__).parents[2] / "docs" / "cross-chain.md"


def test_each_of_the_25_is_planted_once():
    assert [m.number for m in MISTAKES] == list(range(1, 26))
    assert len({m.show for m in MISTAKES}) == 25


def test_the_documents_table_is_what_the_runs_show():
    made = table()
    text = DOC.read_text(encoding="utf-8")
    assert made in text, (
        f"docs/cross-chain.md has another table; `python -m tests.transfers.planted` prints it:\n{made}"
    )

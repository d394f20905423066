"""What the documents name exists: functions, modules, folders."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests.house.counts import PACKAGES, ROOT

NAME = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")
PATH = re.compile(rf"`((?:{'|'.join(PACKAGES)})/[\w/.]*)`")


def test_every_row_of_the_formulas_names_a_function_that_exists() -> None:
    rows = [r for r in (ROOT / "docs/formulas.md").read_text().splitlines() if r.startswith("|")][2:]
    assert rows
    for row in rows:
        found = NAME.findall(row.rstrip("| ").rpartition("|")[2])
        assert len(found) == 1, row
        module, _, name = found[0].rpartition(".")
        assert callable(getattr(import_module(module), name)), row


@pytest.mark.parametrize("page", ["docs/architecture.md", "README.md", "CONTRIBUTING.md", "docs/library.md"])
def test_every_module_and_folder_a_page_names_exists(page: str) -> None:
    named = set(PATH.findall((ROOT / page).read_text()))
    assert [n for n in sorted(named) if not (ROOT / n).exists()] == []
    if page == "docs/architecture.md":
        assert len(named) > 30


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in ("architecture", "glossary", "formulas"):
        assert f"(docs/{page}.md)" in readme

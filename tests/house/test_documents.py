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


OTHERS = {
    "foredrift.policies",
    "foredrift.families",
    "foredrift.sources",
    "foredrift.venues",
    "foredrift.features",
    "foredrift.toml",
    "lake.data",
}  # entry points, a file, a folder of tables
DOTTED = re.compile(rf"(?<![\w./-])((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)")
QUOTED = re.compile(r"``([^`\n]+)``|`([^`\n]+)`")


def exists(name: str) -> bool:
    """Whether a dotted name leads to a folder, a module, or a name in one, judged from the files alone."""
    first, *rest = name.split(".")
    here = ROOT / first
    while rest and (here / rest[0]).is_dir():
        here /= rest.pop(0)
    module = bool(rest) and (here / f"{rest[0]}.py").is_file()
    file = here / (f"{rest.pop(0)}.py" if module else "__init__.py")
    return not rest or re.search(rf"\b{rest[0]}\b", file.read_text(encoding="utf-8")) is not None


def test_no_text_refers_to_a_module_that_is_gone() -> None:
    files = [f for p in PACKAGES for f in (ROOT / p).rglob("*") if f.suffix in {".py", ".md"}]
    files = [f for f in files if "node_modules" not in f.parts]
    files += [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    gone = []
    for file in files:
        for double, single in QUOTED.findall(file.read_text(encoding="utf-8")):
            named = set(DOTTED.findall(double or single)) - OTHERS
            gone += [f"{file.relative_to(ROOT)}: {n}" for n in sorted(named) if not exists(n)]
    assert gone == []


def test_a_module_that_is_gone_is_noticed() -> None:
    assert exists("policy.solvers.bands.solve")
    assert exists("policy.execution.vaults")
    assert not exists("policy.skill")
    assert not exists("policy.solvers.bands.nothing_of_the_kind")

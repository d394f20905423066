"""A clean copy of the tree, and the worked changes of CONTRIBUTING applied to it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.house.counts import PACKAGES, ROOT


def copy_tree(to: Path, *, tests: bool) -> Path:
    """Copy what a clone has of the code (compiled kernels too, as after a first run); return ``to``."""
    to.mkdir()
    skip = shutil.ignore_patterns("node_modules", "*.so", ".hypothesis", "images")
    for name in (*PACKAGES, *(("tests",) if tests else ())):
        shutil.copytree(ROOT / name, to / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, to / name)
    return to


def worked_changes() -> dict[str, str]:
    """Return the diffs of CONTRIBUTING by the heading above each."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^### ([^\n]+)\n(?:(?!^### ).)*?^```diff\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def apply(diff: str, tree: Path) -> list[str]:
    """Apply ``diff`` in ``tree``; return the files it touches."""
    subprocess.run(["git", "apply", "-"], cwd=tree, input=diff, text=True, check=True, capture_output=True)
    return re.findall(r"^\+\+\+ b/(\S+)", diff, re.MULTILINE)

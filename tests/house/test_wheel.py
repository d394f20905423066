"""The wheel: what it holds, and that it runs where nothing of the source tree is in reach."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import polars as pl
import pytest

from tests.house.counts import PACKAGES, ROOT
from tests.house.first_changes import copy_tree

BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
PROBE = """
import sys
from pathlib import Path
import foredrift, lake, features, models, policy, pipelines
from foredrift.ours import check_ours
check_ours()
here = Path(sys.prefix).resolve()
for package in (foredrift, lake, features, models, policy, pipelines):
    assert here in Path(package.__file__).resolve().parents, package.__file__
from pipelines.settings import starter
assert "[portfolio]" in starter()
from policy.execution.contracts.compile import COMMITTED, DEPLOYABLE
assert DEPLOYABLE and all((COMMITTED / f"{name}.json").is_file() for name in DEPLOYABLE)
print(foredrift.__version__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = copy_tree(folder / "tree", tests=False)
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("foredrift-*.whl"))


def test_it_holds_every_module_and_every_file_that_code_reads(wheel: Path) -> None:
    held = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    files = [f for p in PACKAGES for f in (ROOT / p).rglob("*") if f.is_file()]
    files = [f for f in files if not {"__pycache__", "node_modules"} & set(f.parts)]
    read = {".py", ".toml", ".j2", ".css", ".js", ".vy", ".json"}
    wanted = {str(f.relative_to(ROOT)) for f in files if f.suffix in read}
    assert sorted(wanted - held) == []
    assert sorted(held - wanted) == []
    assert {f.suffix for f in files} - read <= {".md", ".typed", ""}  # a new kind of file needs a line in package-data


def test_it_runs_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    install = [sys.executable, "-m", "uv", "pip", "install", "-q", "--offline", "--no-deps", "--python", str(python)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    (site / "libraries.pth").write_text(f"{Path(pl.__file__).parents[1]}\n")  # what it depends on, not installed twice
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FOREDRIFT"))}
    done = subprocess.run([python, "-c", PROBE], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verb = str(home / "bin" / "foredrift")
    shown = subprocess.run([verb, "--help"], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "rebalance" in shown.stdout
    made = subprocess.run([verb, "init"], cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "foredrift.toml").is_file()

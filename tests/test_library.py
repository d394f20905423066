"""Foredrift as a library: lazy, typed, with rules of one's own; and never a stranger's packages."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import foredrift as fd
from policy.strategies.reactive import Bands
from tests.policy.conftest import fill, frames

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Twice:
    """gas_band at twice its trigger: a rule somebody else wrote."""

    name: str = "twice"
    base: Bands = Bands("gas_band", constant=False)  # noqa: RUF009 - frozen

    def levels_over(self, case):
        plan = self.base.levels_over(case)
        return replace(plan, outer=2 * plan.outer)

    def levels_at(self, state, forecasts):
        levels = self.base.levels_at(state, forecasts)
        return replace(levels, outer=2 * levels.outer)


def test_importing_the_package_loads_nothing():
    code = "import sys, foredrift; print(sorted(m for m in sys.modules if m in {'polars','numpy','pydantic','numba'}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_runs_as_the_command_does():
    here = [subprocess.run([sys.executable, "-m", name, "versio"], cwd=ROOT, capture_output=True, text=True)
            for name in ("foredrift", "pipelines.cli")]  # fmt: skip
    assert [d.returncode for d in here] == [2, 2]
    assert "No such command 'versio'. Did you mean 'version'?" in here[0].stderr
    done = subprocess.run([sys.executable, "-m", "foredrift", "version"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == f"foredrift {fd.__version__}"


def test_every_public_name_is_there_and_documented():
    for name in fd.__all__:
        value = getattr(fd, name)
        assert isinstance(value, str) or value.__doc__, name
    with pytest.raises(AttributeError, match="foredrift has no 'trade'"):
        _ = fd.trade


def test_a_comparison_with_a_rule_of_ones_own(tmp_path):
    lake = fill(tmp_path, frames())
    config = fd.CompareConfig(start=fd_time("2023-03-05"), end=fd_time("2023-03-25"), portfolios=2)
    found = fd.compare(lake, config, policies=["hold", "gas_band", Twice()])
    assert set(found.policies["policy"]) == {"hold", "gas_band", "twice"}
    pairs = found.pairs.filter((found.pairs["a"] == "twice") & (found.pairs["b"] == "gas_band"))
    assert len(pairs) == (found.policies["policy"] == "twice").sum()
    assert np.isfinite(pairs["ratio"].drop_nans().to_numpy()).all()
    assert (found.policies.filter(found.policies["policy"] == "twice")["trades_per_year"].sum()
            < found.policies.filter(found.policies["policy"] == "gas_band")["trades_per_year"].sum())  # fmt: skip
    alone = fd.compare(lake, config, policies=["hold", "gas_band"])
    assert alone.policies.equals(found.policies.filter(found.policies["policy"] != "twice"))


def test_a_name_twice_or_unknown_is_refused(tmp_path):
    lake = fill(tmp_path, frames())
    config = fd.CompareConfig(start=fd_time("2023-03-05"), end=fd_time("2023-03-25"), portfolios=2)
    with pytest.raises(fd.ConfigError, match="different names"):
        fd.compare(lake, config, policies=[Twice(), Twice()])
    with pytest.raises(fd.ConfigError, match="gas_bnd"):
        fd.compare(lake, config, policies=["gas_bnd"])


def fd_time(text: str):
    from lake.units import utc

    return utc(text)


@pytest.mark.parametrize("name", ["models", "policy", "features", "lake", "pipelines"])
def test_a_foreign_package_in_the_way_is_named_and_never_run(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('a stranger ran')")
    code = "import foredrift; foredrift.Lake"
    path = f"{tmp_path}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path, "PATH": "/usr/bin"},
    )
    assert done.returncode == 1
    assert f"the package '{name}' comes from" in done.stderr
    assert "PYTHONSAFEPATH=1" in done.stderr
    assert "a stranger ran" not in done.stderr


def test_the_guide_runs(tmp_path):
    text = (ROOT / "docs" / "library.md").read_text()
    code = "\n".join(block.split("```")[0] for block in text.split("```python\n")[1:])
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "total_bp" in done.stdout


def test_the_command_refuses_a_foreign_package(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('a stranger ran')")
    code = "from pipelines.cli import main; main()"
    env = {"PYTHONPATH": f"{ROOT}", "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code, "doctor"], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert "error: the package 'models' comes from" in done.stderr
    assert "a stranger ran" not in done.stdout + done.stderr

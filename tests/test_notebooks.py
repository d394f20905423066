"""The two notebooks: kept without output, run from the first cell to the last, and pages of the documentation."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import nbformat
import polars as pl
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import foredrift as fd
from docs.hooks import as_markdown
from lake.sources.sample import START, simulate
from lake.units import utc

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PATIENCE_S = 600
pytestmark = pytest.mark.filterwarnings("ignore")  # of Jupyter's own; what a cell warns of fails in the suite already


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run ``notebook`` in ``folder`` by a kernel that speaks over sockets in the file system, never over a port."""
    with tempfile.TemporaryDirectory(prefix="fd") as sockets:  # their names must be short
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(
            notebook, km=kernel, timeout=PATIENCE_S, startup_timeout=PATIENCE_S,
            resources={"metadata": {"path": str(folder)}},
        )  # fmt: skip
        client.owns_km = True  # the client ends the kernel, also where a cell fails
        return client.execute(env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"})


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell of code shows last."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not [o for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"], cell.source
            found.append("".join(o.get("data", {}).get("text/plain", "") for o in cell.outputs))
    return found


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_it_is_kept_without_output_and_is_a_page(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.outputs == [] and c.execution_count is None for c in code)
    page = as_markdown(file)
    assert page.startswith("# ")
    assert page.count("```python") == len(code)
    assert all(c.source in page for c in code)
    assert not re.search(r"\]\((?!" + file.name + r")[\w./-]+\.ipynb\)", page), "a page links to pages"


@pytest.mark.slow  # two kernels, a walk-forward and a comparison: half a minute on two idle cores
@pytest.mark.timeout(1800)
def test_the_quants_notebook_runs_to_its_end(tmp_path):
    said = shown(executed(nbformat.read(ROOT / "docs/notebooks/quants.ipynb", as_version=4), tmp_path))
    lake = fd.Lake(str(tmp_path / "lake.data"))
    assert lake.scan("forecasts").select(pl.len()).collect().item() > 0
    assert "predictive" in said[-2]
    assert "ci_low" in said[-1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_engineers_notebook_runs_to_its_end(tmp_path):
    said = shown(executed(nbformat.read(ROOT / "docs/notebooks/engineers.ipynb", as_version=4), tmp_path))
    assert any("patient" in text for text in said)
    assert said[-1] == "('weights', 'action')"
    assert "traded" in " ".join(said)


def test_a_cell_that_fails_fails_the_run(tmp_path):
    broken = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("import foredrift as fd\nfd.nothing_of_the_kind")]
    )
    with pytest.raises(CellExecutionError, match="foredrift has no 'nothing_of_the_kind'"):
        executed(broken, tmp_path)


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return fd.sample(fd.Lake(str(tmp_path_factory.mktemp("market") / "lake")), hours=24 * 30, seed=5)


def test_the_sample_market_is_the_simulated_one_and_the_same_again(market, tmp_path):
    truth = simulate(hours=24 * 30, seed=5)["gas"].sort("ts")
    keys = ["ts", "base_fee_gwei"]
    assert market.scan("gas").sort("ts").select(keys).collect().equals(truth.select(keys))
    other = fd.sample(fd.Lake(str(tmp_path / "other")), hours=24 * 2, seed=6)
    assert not other.scan("gas").sort("ts").select(keys).collect().equals(truth.select(keys).head(48))


def test_features_are_those_the_models_get_without_outcomes(market):
    config = fd.ModelConfig(assets=("BTC", "ETH"))
    start, end = START.replace(day=25), START.replace(day=27)
    found = fd.features(market, config, start, end)
    assert found["ts"].min() == start
    assert found["ts"].max() < end
    assert not [c for c in found.columns if "|" in c]
    later = fd.features(market, config, start, utc("2024-01-30"))
    assert found.equals(later.filter(pl.col("ts") < end)), "what comes later changes nothing"


def test_an_unknown_family_is_named(market):
    config = fd.ModelConfig(assets=("BTC", "ETH"))
    with pytest.raises(fd.ConfigError, match="no forecaster family 'wind'; there are gas, drift, slippage"):
        fd.features(market, config, START, START.replace(day=2), family="wind")
    with pytest.raises(fd.ConfigError, match="'wind'"):
        fd.train(market, config, START, START.replace(day=2), names=["wind"])

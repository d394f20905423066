"""The panel on one and on two single-threaded worker processes: the figures agree, the second is faster."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from pipelines.growth import dask_engine
from policy.compare import run
from policy.panel import DEFAULT_CELLS
from policy.registry import CompareConfig
from tests.policy.conftest import START, fill, frames

pytest.importorskip("prefect_dask", reason="the Dask engine needs the extra: pip install foredrift[dask]")
HOURS = 24 * 200


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")
def test_two_workers_are_faster_than_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    lake = fill(tmp_path / "lake", frames(hours=HOURS))
    policies = ("threshold", "gas_band", "predictive", "foresight_gas")
    cells = tuple(c for c in DEFAULT_CELLS if c.nav_usd == 1e5)
    wall, found = {}, {}
    for workers in (2, 1):  # the first one compiles
        config = CompareConfig(
            START, START + timedelta(hours=HOURS - 24 * 41), portfolios=16, policies=policies, cells=cells, skill=1.0,
            seed=workers,
        )  # fmt: skip
        run(lake, config, engine=dask_engine(None, workers, tmp_path / f"warm{workers}"))
        config = CompareConfig(config.start, config.end, portfolios=48, policies=policies, cells=cells, skill=1.0)
        json_of = run(lake, config, engine=dask_engine(None, workers, tmp_path / str(workers))).json
        wall[workers] = json_of.pop("timing")["wall_s"]
        found[workers] = json.dumps(json_of)
    print(f"\npanel on Dask: 1 worker {wall[1]:.1f} s, 2 workers {wall[2]:.1f} s, ratio {wall[1] / wall[2]:.2f}")
    assert found[1] == found[2]
    assert wall[2] < wall[1]

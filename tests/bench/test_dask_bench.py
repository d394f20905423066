"""The panel on one and on two single-threaded worker processes: the same to the last digit, and two are faster."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from pipelines.servers.engines import engine_of
from policy.comparison.compare import Comparison, run
from policy.simulation.panel import DEFAULT_CELLS
from policy.strategies.registry import CompareConfig
from tests.policy.conftest import START, fill, frames

pytest.importorskip("prefect_dask", reason="the Dask engine needs the extra: pip install foredrift[dask]")


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")
@pytest.mark.server
def test_two_workers_are_faster_than_one(pace, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    monkeypatch.setenv("PREFECT_LOGGING_TO_API_ENABLED", "false")  # no log is sent to a server that has ended
    hours = 24 * pace.pick(200, 50)
    lake = fill(tmp_path / "lake", frames(hours=hours))
    policies = ("gas_band", "predictive", "threshold", "foresight_gas")[: pace.pick(4, 2)]
    cells = tuple(c for c in DEFAULT_CELLS if c.nav_usd == 1e5)
    wall = {}
    config = CompareConfig(
        START, START + timedelta(hours=hours - 24 * 41), portfolios=pace.pick(48, 2), policies=policies,
        cells=cells[: pace.pick(len(cells), 1)], skill=1.0,
    )  # fmt: skip
    found = {"threads": figures(run(lake, config))}
    for workers in (2, 1) if pace.timed else (2,):
        if pace.timed:  # what compiles first is not measured
            warm = replace(config, portfolios=16, seed=workers)
            run(lake, warm, engine=engine_of("dask", workers, tmp_path / f"warm{workers}"))
        outcome = run(lake, config, engine=engine_of("dask", workers, tmp_path / str(workers)))
        wall[workers] = outcome.json["timing"]["wall_s"]
        found[workers] = figures(outcome)
    assert len(found) >= 2
    assert set(found.values()) == {found["threads"]}
    if pace.timed:
        print(f"\npanel on Dask: 1 worker {wall[1]:.1f} s, 2 workers {wall[2]:.1f} s, ratio {wall[1] / wall[2]:.2f}")
        assert wall[2] < wall[1]


def figures(outcome: Comparison) -> tuple[str, str]:
    """All of a comparison but how long it took: its summary, and every trade."""
    kept = {k: v for k, v in outcome.json.items() if k != "timing"}
    return json.dumps(kept, sort_keys=True), outcome.trades.write_json()

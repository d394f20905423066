"""The panel on a Dask cluster of two processes gives the figures of the threads, to the last digit."""

from __future__ import annotations

import json

import pytest

from pipelines.stages.compare import compare
from pipelines.wiring import PanelChoice
from tests.pipelines.market import moment, project

pytest.importorskip("prefect_dask", reason="the Dask engine needs the extra: pip install foredrift[dask]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning"),
]
POLICIES = ["gas_band", "predictive", "foresight_gas"]


def test_two_workers_equal_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    settings = project(tmp_path / "project")
    models = settings.models.model_copy(update={"threads": 2, "rounds": 8})
    settings = settings.model_copy(update={"models": models})
    found = {}
    for engine in ("threads", "dask"):
        folder = tmp_path / engine
        outcome = compare(
            settings,
            moment(24 * 14),
            moment(0),
            asked=PanelChoice(4, POLICIES),
            engine=engine,
            artifacts=folder,
            track=False,
        )
        figures = {k: v for k, v in outcome.json.items() if k != "timing"}
        trades = (folder / "trades.parquet").read_bytes()
        found[engine] = (json.dumps(figures, sort_keys=True), trades)
    assert found["dask"] == found["threads"]

"""The demo's hedge: rules compared on the sample market, the picture written, one hedge of a real book executed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lake.units import utc
from pipelines.demo import demo_hedge
from pipelines.demo.demo import end_of, prepare
from pipelines.stages.ingest import ingest_all
from pipelines.vault_settings import vaults_of


@pytest.mark.chain
def test_the_demo_hedges_once_and_draws_the_frontier(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = prepare(tmp_path / "demo")
    end = utc(end_of(settings.sources.sample))
    ingest_all(settings, [], (end - timedelta(days=200)).isoformat(), end.isoformat())
    monkeypatch.setattr(demo_hedge, "DAYS", 30)
    found = demo_hedge.hedge_demo(vaults_of(settings)[0], end, tmp_path)
    assert (tmp_path / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    assert found["hedge"]["outcome"] == "traded"
    assert found["hedge"]["settlement"]["landed"]

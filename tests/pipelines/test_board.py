"""The shipped Grafana board asks for metrics, labels and figures that exist, and the gauges show what is known only."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipelines.scheduled.metrics import Metrics
from tests.pipelines.page_data import DATA

BOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana.json"
EMPTY = {"tables": [], "forecasts": [], "models": [], "coverage": []}


def shown(data) -> dict[tuple, float]:
    metrics = Metrics()
    metrics.update({**EMPTY, "portfolios": [data]})
    return {
        (s.name, *sorted(s.labels.items())): s.value for family in metrics.registry.collect() for s in family.samples
    }


def test_the_board_asks_for_what_there_is():
    known = {family.name: family for family in Metrics().registry.collect()}
    figures = {dict(key[1:]).get("figure") for key in shown(DATA)}
    board = json.loads(BOARD.read_text())
    asked = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    assert len(asked) > 15
    for expression in asked:
        names = re.findall(r"foredrift_[a-z_]+", expression)
        assert names
        assert set(names) <= set(known), expression
        if "foredrift_portfolio" in expression or "foredrift_weight" in expression:
            assert set(re.findall(r'figure="([a-z0-9_]+)"', expression)) <= figures, expression
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"])
    assert {p["type"] for p in board["panels"]} == {"stat", "timeseries"}


def test_gauges_are_the_portfolios_figures_and_what_is_unknown_is_no_zero():
    said = shown(DATA)
    vault = ("vault", "main")
    assert said["foredrift_portfolio", ("figure", "nav_usd"), vault] == DATA["nav"]["usd"]
    assert said["foredrift_portfolio", ("figure", "saved_threshold_5pct_usd"), vault] == -341.0
    assert said["foredrift_portfolio", ("figure", "saved_threshold_5pct_low"), vault] == -520.0
    assert said["foredrift_portfolio", ("figure", "halted"), vault] == 0.0
    assert said["foredrift_weight", ("asset", "ETH"), ("figure", "weight"), vault] == 0.366
    short = [{**DATA["saved"]["against"][0], "low": None, "high": None}]
    silent = {**DATA, "gas_money": {"native": None, "usd": None, "words": "not known"}, "saved": {"against": short}}
    figures = {dict(key[1:]).get("figure") for key in shown(silent)}
    assert "saved_gas_band_usd" in figures
    assert not {"saved_gas_band_low", "keeper_native"} & figures

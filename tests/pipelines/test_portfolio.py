"""The portfolio of a paper project: what is shown agrees with the records, at 80 columns, before and after a trade."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lake.units import utc
from pipelines.deployments import deployment
from pipelines.reports.alert_words import ALERTS
from pipelines.reports.portfolio_terminal import rendered
from pipelines.settlements.halting import halt_of
from pipelines.settlements.live_hours import VaultLook, flow
from pipelines.settlements.reconcile import journal_of
from pipelines.settlements.settled_plan import executions, realised
from pipelines.stages.portfolio import portfolio
from pipelines.stages.saved import _row, saved
from policy.comparison.saved import SavedAgainst, Spent
from policy.execution.records.audit import Audit
from tests.pipelines.market import END, moment, project
from tests.pipelines.page_data import WHOLE

HOURS = (24 * 12, 24 * 12 - 1, 24 * 9, 24 * 6, 24 * 3, 1)
EXTRA = """
[vault]
start = [0.5, 0.3, 0.2]
[mandate]
min_trade_usd = 1
loss_budget_bps = 100
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    settings = project(tmp_path_factory.mktemp("portfolio"), EXTRA)
    hard = {"scenario": "hard", "tolerance": 0.02}
    return deployment(settings.model_copy(update={"portfolio": settings.portfolio.model_copy(update=hard)}))


@pytest.fixture(scope="module")
def before(fresh):
    return portfolio(fresh, END)


@pytest.fixture(scope="module")
def lived(fresh, before):
    """The project after six decisions on paper."""
    assert before["decisions"] == []
    for hours in HOURS:
        fresh.step(utc(moment(hours)), live=True)
    return fresh


@pytest.fixture(scope="module")
def shown(lived):
    return portfolio(lived, END)


def text_of(data, width=80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(rendered(data))
    return out.getvalue()


def test_before_the_first_decision_it_shows_what_it_begins_with(before):
    assert before["nav"]["usd"] == pytest.approx(250_000)
    assert [a["weight"] for a in before["assets"]] == pytest.approx([0.5, 0.3, 0.2])
    assert before["saved"]["words"] == "no decision was taken yet"
    assert "Nothing was decided yet" in text_of(before)


def test_what_is_shown_is_what_was_recorded(lived, shown):
    records = [line.body for line in Audit(lived.audit).records()]
    settled = executions(journal_of(lived).flights(), records)
    assert settled
    spent = [realised(lived, s) for s in settled if s.at.month == END.month and s.at.year == END.year]
    month = shown["cost_month"]
    assert month["gas_usd"] == pytest.approx(sum(s["gas_usd"] for s in spent))
    assert month["fee_usd"] + month["impact_usd"] == pytest.approx(sum(s["loss_usd"] for s in spent), abs=1e-6)
    assert month["total_usd"] == pytest.approx(month["gas_usd"] + month["fee_usd"] + month["impact_usd"])
    assert sum(a["weight"] for a in shown["assets"]) == pytest.approx(1.0)
    assert sum(a["usd"] for a in shown["assets"]) == pytest.approx(shown["nav"]["usd"])
    assert len(shown["decisions"]) == len(HOURS)
    assert shown["decisions"][-1]["outcome"] == "traded"
    assert shown["decisions"][-1]["sentence"].startswith("Traded ")
    assert [d["ts"] for d in shown["decisions"]] == sorted((d["ts"] for d in shown["decisions"]), reverse=True)
    assert shown["history"]["nav_usd"][0] == pytest.approx(250_000, rel=0.01)
    assert shown["next"]["decision_id"] == shown["decisions"][0]["decision_id"]
    assert utc(shown["next"]["due"]) > END
    assert shown["gas_money"]["native"] > 0
    assert 0 < shown["loss_budget"]["left_bp"] <= shown["loss_budget"]["of_bp"] == 100
    json.dumps(shown, allow_nan=False)


def test_it_is_whole_at_80_columns_and_has_units(shown):
    said = text_of(shown)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80
    for words in ("NAV", "in band", "this month", "against gas_band", "5 %", "bp of NAV", "USD", "left for gas"):
        assert words in " ".join(said.split()), words
    assert not re.search(r"\b[a-z]+_[a-z_]+\b", said.replace("gas_band", "")), said


def test_forecasts_chains_and_greeks_are_whole_at_80_columns_too():
    said = text_of(WHOLE)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80
    for words in (
        "Outside its tolerances today: 12 min", "Without a trade, in 24 h, with 90 %: BTC 36.5 to 39.9 %",
        "A swap of 100,000 USD within 1 h costs, with 90 %: ETH 7.7 bp (6.4 to 12.1)", "0x3434343434 36.0 bp",
        "chain 42161 (arbitrum): 304,310 USD, 30.3%", "usually 19 min", "ETH: delta -12,400 USD", "was to wait",
    ):  # fmt: skip
        assert words in " ".join(said.split()), words


def test_time_outside_and_what_is_not_forecast_are_said(shown):
    assert shown["outside"]["days30"]["known_min"] > 0
    assert "in the last 30 days" in shown["outside"]["words"]
    assert shown["drift"]["words"] == "There is no forecast of drift of the last day."
    assert shown["chains"] is None
    assert shown["greeks"] is None


def test_an_asset_outside_its_band_is_said_so(shown):
    row = {**shown["assets"][0], "weight": 0.9, "outside": True}
    assert "outside" in text_of({**shown, "assets": [row]})


def test_a_stop_is_the_first_thing_said(lived, shown):
    halt_of(lived).stop(END, "fire drill", "terminal")
    try:
        data = portfolio(lived, END)
    finally:
        halt_of(lived).resume()
    assert data["halted"]["reason"] == "fire drill"
    assert "fire drill" in data["next"]["sentence"]
    assert data["alerts"][0]["alert"] == "stopped"
    assert shown["halted"] is None


def test_old_data_are_an_alert(lived):
    late = portfolio(lived, END.replace(year=END.year + 1))
    assert "stale" in [a["alert"] for a in late["alerts"]]


def test_what_an_alert_asks_for_is_the_runbooks_own_sentence():
    runbook = " ".join((Path(__file__).resolve().parents[2] / "docs/runbook.md").read_text().split())
    for name, words in ALERTS.items():
        assert words in runbook or name == "stale", name


def test_saved_pays_what_the_records_say_and_is_too_short_to_say(lived, shown):
    found = shown["saved"]
    assert [r["rule"] for r in found["against"]] == ["gas_band", "threshold_5pct"]
    assert found["weeks"] < 4
    assert all(r["low"] is None and "too short to say" in r["words"] for r in found["against"])
    spent = found["spent"]
    assert spent["total_usd"] == pytest.approx(spent["gas_usd"] + spent["fee_usd"] + spent["impact_usd"])
    for row in found["against"]:
        assert row["usd"] == pytest.approx(row["theirs"]["total_usd"] - spent["total_usd"])
    again = saved(lived, END)
    assert again == found


@pytest.mark.parametrize(
    ("soft", "hours", "more"),
    [(False, 400, " (it left the band for 400 h, this one for 3 h)"), (False, 3, ""), (True, 400, "")],
)
def test_a_rule_that_is_cheaper_outside_a_hard_band_is_said_to_be_there(soft, hours, more):
    mine, theirs = Spent(np.zeros((5, 4)), 3, 2), Spent(np.zeros((5, 4)), hours, 1)
    row = _row(SavedAgainst("threshold_5pct", -97.0, -174.0, 0.2, theirs), mine, soft)
    assert row["words"] == f"-97 USD (-174 to 0) against the 5 % threshold, within chance{more}"


SEEN = VaultLook(END, np.array([0.5, 0.5]), np.array([0.6, 0.4]), 1_000.0, {"a": 50, "b": 50}, {"a": 10, "b": -10})


def test_flows_are_what_trades_and_prices_do_not_explain():
    later = replace(SEEN, weights=np.array([0.6, 0.4]), holdings={"a": 60, "b": 40}, deltas={})
    assert flow(SEEN, later, np.zeros(2)) is None
    paid_in = replace(later, holdings={"a": 160, "b": 40}, nav_usd=2_000.0, weights=np.array([0.8, 0.2]))
    assert flow(SEEN, paid_in, np.zeros(2)) == pytest.approx([1_000.0, 0.0])
    dust = replace(later, holdings={"a": 61, "b": 40}, nav_usd=1_000.01)
    assert flow(SEEN, dust, np.zeros(2)) is None

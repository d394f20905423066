"""Greeks of a deployment's book in status and portfolio: those of its positions, or of the lines a hedge decided on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lake.store import Lake
from pipelines.deployments import deployments
from pipelines.reports.greeks_words import greeks_words
from pipelines.settings import load
from pipelines.stages.book_greeks import UNITS, book_greeks
from pipelines.stages.portfolio import portfolio
from pipelines.stages.status import status
from pipelines.wiring import lake_of
from policy.execution.records.audit import Audit
from policy.execution.vaults.hedge.state import E8, WAD
from policy.hedging import pricing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXPIRY = datetime(2026, 3, 31, 12, tzinfo=UTC)
STRIKE, VOL, PRICE = 3_000.0, 0.6, 3_100.0
HEDGE = '[chain]\nid = 31337\nrpc_urls = ["http://127.0.0.1:1"]\n[hedge]\n' + f'account = "0x{"1" * 40}"\n'
KEYS = {"delta_usd", "gamma_usd", "theta_usd_day", "vega_usd_point"}


def project(tmp_path, text=""):
    (tmp_path / "foredrift.toml").write_text(text)
    return load(tmp_path / "foredrift.toml")


def priced(lake: Lake, hours: int = 1) -> None:
    bars = {"source": ["x"] * 3, "asset": ["ETH"] * 3, "step": [3_600] * 3, "close": [PRICE] * 3,
            "ts": [NOW - timedelta(hours=hours + i) for i in range(3)]}  # fmt: skip
    lake.write("prices", pl.DataFrame(bars).with_columns(available_at=pl.col("ts") + timedelta(hours=1)))


def held(lake: Lake, name: str, quantity: float = -2.0) -> None:
    lake.write("positions", pl.DataFrame({
        "portfolio": name, "position_id": ["coins", "cash"], "ts": NOW, "available_at": NOW, "kind": ["spot", "stable"],
        "asset": ["ETH", None], "quantity": [quantity, 500.0],
    }))  # fmt: skip


def decision(folder, ts=NOW, **over):
    """One hedge decision of a short call of 10, a linear line of 4 and a short perpetual of 1.5, as it is recorded."""
    rows = [[0, -10 * WAD, int(STRIKE) * WAD, int(EXPIRY.timestamp()), int(VOL * 1e6) * 10**12], [3, 4 * WAD, 0, 0, 0]]
    body = {
        "decision_id": "d", "ts": ts.isoformat(), "policy": "hedge_gas_band", "action": "wait", "why": "inside",
        "live": True, "verdicts": [], "expected": {"hedge_units": -1.5, "price_usd": PRICE},
        "inputs": {"lines": [[str(v) for v in row] for row in rows], "prices_e8": [str(E8), str(int(PRICE * E8))],
                   "block_time": int(ts.timestamp()), "asset": "WETH"},
    }  # fmt: skip
    Audit(folder / ".foredrift/hedge-audit.jsonl").append("hedge", body | over)


def first(settings):
    return deployments(settings)[0]


def test_a_vault_without_book_or_hedge_has_none(tmp_path):
    settings = project(tmp_path)
    assert book_greeks(first(settings), lake_of(settings), NOW) is None
    assert portfolio(first(settings), NOW)["greeks"] is None
    hedged = project(tmp_path, HEDGE)
    shown = portfolio(first(hedged), NOW)["greeks"]
    assert {shown[k] for k in KEYS} == {None}
    assert "decided on yet" in shown["unpriced"]
    settings = project(tmp_path)
    assert status(settings, NOW)["deployments"][0]["greeks"] is None


def test_the_lines_of_the_last_decision_are_priced_as_the_kernel_does(tmp_path):
    settings = project(tmp_path, HEDGE)
    decision(tmp_path, NOW - timedelta(hours=1), inputs={"lines": []})
    decision(tmp_path)
    found = book_greeks(first(settings), lake_of(settings), NOW + timedelta(minutes=3))
    tau = (EXPIRY - NOW).total_seconds() / (365 * 86_400)
    one = pricing.greeks(*(np.array([v]) for v in (PRICE, STRIKE, tau, VOL)), np.array([True]))[0]
    assert found["source"] == "chain"
    assert found["as_of"] == NOW.isoformat()
    assert found["delta_usd"] == pytest.approx((-10 * one[pricing.DELTA] + 4) * PRICE)
    assert found["gamma_usd"] == pytest.approx(-10 * one[pricing.GAMMA] * PRICE**2)
    assert found["vega_usd_point"] == pytest.approx(-10 * one[pricing.VEGA] / 100)
    assert found["theta_usd_day"] == pytest.approx(-10 * one[pricing.THETA] / 365)
    assert found["theta_usd_day"] > 0 > found["gamma_usd"]
    assert found["hedge_delta_usd"] == pytest.approx(-1.5 * PRICE)
    assert found["net_delta_usd"] == pytest.approx(found["delta_usd"] - 1.5 * PRICE)
    assert set(found["units"]) == set(UNITS) == KEYS
    [row] = found["assets"]
    assert row["asset"] == "WETH"
    assert {k: row[k] for k in KEYS} == pytest.approx({k: found[k] for k in KEYS})


def test_status_and_portfolio_carry_the_same_figures(tmp_path):
    settings = project(tmp_path, HEDGE)
    decision(tmp_path)
    shown = portfolio(first(settings), NOW)["greeks"]
    assert shown == status(settings, NOW)["deployments"][0]["greeks"]
    whole = book_greeks(first(settings), lake_of(settings), NOW)
    assert {k: shown[k] for k in KEYS} == {k: whole[k] for k in KEYS}
    [row], [same] = shown["assets"], whole["assets"]
    assert row["cash_gamma_usd"] == same["gamma_usd"]
    assert row["vega_usd_per_point"] == same["vega_usd_point"]
    assert shown["unpriced"] is None
    assert "with its hedge delta" in greeks_words(shown)
    assert f"vega {shown['vega_usd_point']:,.0f} USD/pt" in greeks_words(shown)


def test_a_decision_of_the_future_is_not_shown(tmp_path):
    settings = project(tmp_path, HEDGE)
    decision(tmp_path)
    assert book_greeks(first(settings), lake_of(settings), NOW - timedelta(seconds=1)) is None


def test_a_decision_without_a_price_says_so_and_shows_no_figure(tmp_path):
    settings = project(tmp_path, HEDGE)
    decision(tmp_path)
    rows = [[3, 4 * WAD, 0, 0, 0]]
    inputs = {"lines": rows, "prices_e8": ["0", "0"], "block_time": int(NOW.timestamp())}
    decision(tmp_path, NOW + timedelta(minutes=5), inputs=inputs)
    found = book_greeks(first(settings), lake_of(settings), NOW + timedelta(minutes=6))
    assert {found[k] for k in KEYS} == {None}
    assert "no good price" in greeks_words(found)


@pytest.mark.parametrize(("text", "name"), [("", None), (HEDGE + 'portfolio = "desk"\n', "desk")])
def test_recorded_positions_are_the_book_where_there_are_any(tmp_path, text, name):
    settings = project(tmp_path, text)
    lake, deployment = lake_of(settings), first(settings)
    held(lake, name or deployment.name)
    priced(lake)
    found = book_greeks(deployment, lake, NOW)
    assert found["source"] == "positions"
    assert found["portfolio"] == (name or deployment.name)
    assert found["delta_usd"] == pytest.approx(-2.0 * PRICE)
    assert (found["gamma_usd"], found["vega_usd_point"]) == (0.0, 0.0)
    assert found["as_of"] == NOW.isoformat()
    assert found["net_delta_usd"] is None


def test_a_line_that_cannot_be_priced_leaves_no_figure_at_all(tmp_path):
    settings = project(tmp_path)
    lake, deployment = lake_of(settings), first(settings)
    held(lake, deployment.name)
    priced(lake, hours=50)
    found = book_greeks(deployment, lake, NOW)
    assert {found[k] for k in KEYS} == {None}
    assert "price of ETH" in found["unpriced"]
    assert found["assets"] == []


def test_another_portfolio_of_the_lake_is_not_this_ones(tmp_path):
    settings = project(tmp_path)
    held(lake_of(settings), "somebody else")
    assert book_greeks(first(settings), lake_of(settings), NOW) is None

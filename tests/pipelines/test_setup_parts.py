"""Who decides on what: the week a lesson stands on, the forecasts in force, the paper vault's first block."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError, NotEnoughData
from lake.store import Lake
from lake.tables import TABLES
from lake.units import utc
from pipelines.deployments import deployment
from pipelines.experiments.client import is_server, tracking_uri
from pipelines.settings import Settings, load, notify_urls, replay, served_file, starter
from pipelines.vault_setup import paper
from pipelines.vault_setup.context_parts import portfolio_of
from pipelines.vault_setup.decider import FORECAST_LIFE, _missing, forecasts_at, memory_at, portfolio_at, week_start
from pipelines.vault_setup.paper import MarketPoint, in_bps
from pipelines.wiring import PanelChoice, compare_config, mandate_of, model_config, operators, rpc_of
from policy.base import Forecast
from policy.execution.base import Flows
from policy.execution.checks.rules import PPB
from policy.execution.state_builder import state_of
from policy.netting import LEAST_GAS
from tests.execution.simlab import chain, context

AT = datetime(2024, 3, 14, 15, tzinfo=UTC)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))


@given(at=moments)
def test_lessons_stand_on_whole_weeks_that_ended_a_day_ago_at_least(at):
    start = week_start(at)
    assert start.weekday() == 0
    assert (start.hour, start.minute, start.second) == (0, 0, 0)
    assert timedelta(days=1) <= at - start < timedelta(days=8, seconds=1)


@given(at=moments, later=st.integers(0, 6))
def test_the_week_changes_once_a_week(at, later):
    start = week_start(at)
    assert week_start(start + timedelta(days=1 + later)) == start
    assert week_start(start + timedelta(days=8)) == start + timedelta(days=7)


def forecast_rows(*ages_h: float, **more) -> pl.DataFrame:
    """Gas forecasts issued so many hours before AT; ``mean`` is the age, to tell them apart."""
    rows = [
        {
            "target": "gas", "key": "1", "horizon_s": 3_600, "issued_at": AT - timedelta(hours=age),
            "available_at": AT - timedelta(hours=age), "mean": age, "model_version": "v", "abstain": False,
            "reason": "", **{q: age + i for i, q in enumerate(("q05", "q25", "q50", "q75", "q95"))}, **more,
        }
        for age in ages_h
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=TABLES["forecasts"].columns)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_the_newest_forecast_of_each_horizon_counts_and_none_from_after_the_moment(lake):
    lake.write("forecasts", forecast_rows(-1, 0.5, 1.5))
    lake.write("forecasts", forecast_rows(0.25, horizon_s=7_200))
    view = forecasts_at(lake, AT)
    assert {k: f.mean for k, f in view.items()} == {("gas", "1", 3_600): 0.5, ("gas", "1", 7_200): 0.25}
    assert view["gas", "1", 3_600].quantiles == (0.5, 1.5, 2.5, 3.5, 4.5)


@pytest.mark.parametrize(("age_h", "count"), [(1.99, 1), (2.0, 0), (5.0, 0)])
def test_an_old_forecast_decides_nothing(lake, age_h, count):
    assert timedelta(hours=2) == FORECAST_LIFE
    lake.write("forecasts", forecast_rows(age_h))
    assert len(forecasts_at(lake, AT)) == count


def test_a_row_without_numbers_is_an_abstention_with_its_reason_and_no_zero(lake):
    blank = dict.fromkeys(("q05", "q25", "q50", "q75", "q95", "mean"))
    lake.write("forecasts", forecast_rows(1.0, abstain=True, reason="the feed is old", **blank))
    [row] = forecasts_at(lake, AT).values()
    assert (row.quantiles, row.mean, row.abstain, row.reason) == (None, None, True, "the feed is old")


def said(abstain: bool, key: str = "1", target: str = "gas") -> Forecast:
    return Forecast(target, key, AT, 3_600, None, None, "v", abstain, "old" if abstain else "")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((), "no gas forecast"),
        ((said(abstain=True),), "gas forecasts abstain: old"),
        ((said(abstain=False, key="10"),), "no gas forecast"),
        ((said(abstain=False),), "no gas_min forecast"),
        ((said(abstain=False), said(abstain=False, target="gas_min")), ""),
    ],
)
def test_the_configured_policy_must_not_decide_without_what_it_reads(rows, words):
    given_settings = Settings(policy={"kind": "predictive"})
    view = {(f.target, f.key, f.horizon_s): f for f in rows}
    found = _missing(deployment(given_settings), view)
    assert found.startswith(words) if words else found == ""


def test_a_lake_that_does_not_reach_the_moment_says_how_far_it_does(lake, tmp_path):
    with pytest.raises(NotEnoughData) as caught:
        memory_at(deployment(Settings(root=tmp_path)), lake, AT)
    assert any("newest price" in note for note in caught.value.__notes__)


def test_the_portfolio_of_a_decision_is_the_configured_one():
    one = deployment(Settings(portfolio={"assets": ["ETH", "BTC"], "targets": [0.6, 0.4], "tolerance": [0.02, 0.05]}))
    made = portfolio_at(one, AT)
    assert made.assets == ("ETH", "BTC")
    assert made.target.tolist() == [0.6, 0.4]
    assert made.tolerance.tolist() == [0.02, 0.05]
    assert made.fee == pytest.approx(np.full(2, one.costs.fee_bps / 1e4))


@pytest.mark.parametrize(
    ("asked", "scenario", "least"),
    [("soft", "soft", LEAST_GAS), ("soft", "hard", None), ("all", "soft", 0.0), ("all", "hard", 0.0),
     ("none", "soft", None)],
)  # fmt: skip
def test_a_mandate_waits_for_holders_money_as_configured_from_that_gas_on(tmp_path, asked, scenario, least):
    given_ = Settings(
        portfolio={"assets": ["USDC", "ETH", "BTC"], "scenario": scenario}, policy={"net_requests": asked}
    )
    terms = portfolio_of(deployment(given_))
    assert terms.net_requests == least
    ctx = context(tmp_path, chain())
    seen = ctx.vault.snapshot()
    seen = replace(seen, flows=Flows(coming=seen.nav // 100))
    for gwei in (0.05, 200.0):
        flows = state_of(seen, terms, ctx.view(seen), tuple(ctx.pools(seen)), int(gwei * 1e9)).flows
        assert flows.coming == pytest.approx(0.01)
        assert flows.net == (least is not None and (least == 0.0 or gwei > 1))  # a million: 0.3 bp at 50 gwei


weights = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=12).map(lambda x: [v / sum(x) for v in x])


@given(shares=weights)
def test_basis_points_sum_to_all_and_are_a_point_off_at_most(shares):
    found = in_bps(shares)
    assert sum(found) == 10_000
    assert all(abs(b - 10_000 * w) < 1 for b, w in zip(found, shares, strict=True))


def market(close: tuple[float, ...], at: datetime = AT, depth: float = 1e7) -> MarketPoint:
    n = len(close)
    return MarketPoint(at, ("ETH", "BTC")[:n], np.array(close), np.full(n, depth), 20.0, 25.0, 2_000.0)


@pytest.fixture
def two(tmp_path):
    assets = {"assets": ["ETH", "BTC"], "targets": [0.6, 0.4], "nav_usd": 100_000}
    return deployment(Settings(root=tmp_path, portfolio=assets, vault={"start": "targets"}))


def test_the_paper_vault_begins_with_the_configured_value_and_remembers_it(two):
    chain, vault = paper.open_vault(two, market((2_000.0, 50_000.0)))
    first = vault.snapshot()
    usd = sum(h * q.price_e8 / 1e16 for h, q in zip(first.holdings, first.quotes, strict=True))
    assert usd == pytest.approx(100_000, rel=1e-6)
    assert first.targets_bps == (6_000, 4_000)
    two.path(two.vault.state).parent.mkdir(parents=True)
    paper.close_vault(two, chain, vault)
    later, again = paper.open_vault(two, market((2_200.0, 50_000.0), AT + timedelta(hours=1)))
    assert again.snapshot().holdings == first.holdings
    assert later.head().number > chain.head().number
    assert later.head().time >= int((AT + timedelta(hours=1)).timestamp()) - 12


def test_a_price_is_as_old_as_its_bar_and_a_round_counts_new_answers_only(two):
    chain, vault = paper.open_vault(two, market((2_000.0, 50_000.0)))
    rounds = [q.round_id for q in vault.snapshot().quotes]
    two.path(two.vault.state).parent.mkdir(parents=True)
    paper.close_vault(two, chain, vault)
    made = {"ETH": AT + timedelta(minutes=59), "BTC": AT - timedelta(seconds=12)}
    moved = MarketPoint(
        AT + timedelta(hours=1), ("ETH", "BTC"), np.array([2_100.0, 50_000.0]), np.full(2, 1e7), 20.0, 25.0, 2e3, made
    )
    eth, btc = paper.open_vault(two, moved)[1].snapshot().quotes
    assert (eth.round_id, btc.round_id) == (rounds[0] + 1, rounds[1])
    assert eth.updated_at == int(made["ETH"].timestamp())


@pytest.mark.parametrize("depth", [1e5, 1e7, float("inf")])
def test_a_paper_pool_moves_by_one_percent_for_the_recorded_depth(two, depth):
    _, vault = paper.open_vault(two, market((2_000.0, 50_000.0), depth=depth))
    pool = vault.pools(vault.snapshot())[0]
    held = pool.reserve1 / 10**paper.DOLLAR_DECIMALS
    assert held * paper.ONE_PERCENT == pytest.approx(depth if np.isfinite(depth) else paper.DEEP_USD, rel=1e-6)
    assert 2 * pool.fee_pips == round(two.costs.fee_bps * 100)


def test_what_the_paper_vault_enforces_is_known_before_and_after_it_is_made(two):
    before = paper.capabilities(two)
    chain, vault = paper.open_vault(two, market((2_000.0, 50_000.0)))
    two.path(two.vault.state).parent.mkdir(parents=True)
    paper.close_vault(two, chain, vault)
    assert paper.capabilities(two) == before == vault.describe()


@pytest.mark.parametrize(("uri", "server"), [("http://h:1", True), ("https://h", True), ("sqlite:///x.db", False)])
def test_a_tracking_server_is_told_from_a_database(uri, server):
    assert is_server(uri) == server


def test_a_database_of_the_project_is_an_absolute_file_with_its_options(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    stores = Settings(root=tmp_path, mlflow={"tracking_uri": "sqlite:///runs/a.db?timeout=5"})
    assert tracking_uri(stores) == f"sqlite:///{tmp_path}/runs/a.db?timeout=5"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert tracking_uri(stores) == "http://elsewhere"


def test_the_served_file_is_the_one_that_serving_named_else_that_of_the_home(monkeypatch):
    for name in ("FOREDRIFT_CONFIG", "FOREDRIFT_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert served_file() is None
    monkeypatch.setenv("FOREDRIFT_HOME", "/home/fund")
    assert served_file() == Path("/home/fund/foredrift.toml")
    monkeypatch.setenv("FOREDRIFT_CONFIG", "/etc/paper.toml")
    assert served_file() == Path("/etc/paper.toml")


def test_addresses_for_notifications_are_words_of_a_variable(monkeypatch):
    monkeypatch.delenv("FOREDRIFT_NOTIFY", raising=False)
    assert notify_urls() == []
    monkeypatch.setenv("FOREDRIFT_NOTIFY", " json://a  mailto://b ")
    assert notify_urls() == ["json://a", "mailto://b"]


@pytest.mark.parametrize("text", ["", "2024-01-01", "2024-01-01,2024-01-02", "a,b,c", "2024-01-01,2024-01-02,fast"])
def test_a_replayed_clock_is_three_parts_or_an_error_in_words(monkeypatch, text):
    monkeypatch.setenv("FOREDRIFT_REPLAY", text)
    if not text:
        assert replay() is None
        return
    with pytest.raises(ConfigError):
        replay()


def test_a_replayed_clock_runs_at_its_pace(monkeypatch):
    monkeypatch.setenv("FOREDRIFT_REPLAY", "2024-01-01,2024-06-01,60")
    assert replay() == (utc("2024-01-01"), utc("2024-06-01"), 60.0)


@pytest.mark.parametrize("sample", [False, True])
def test_the_starter_file_loads_as_it_is_written(tmp_path, sample):
    file = tmp_path / "foredrift.toml"
    file.write_text(starter(sample=sample))
    made = load(file)
    assert (made.sources.sample is not None) == sample
    assert made.live_on_schedule


@given(loss=st.integers(1, 500), assets=st.integers(2, 20))
def test_the_mandate_of_a_vault_that_holds_none_is_as_configured_and_never_pauses_by_itself(loss, assets):
    given_section = Settings(mandate={"loss_budget_bps": loss}).mandate
    made = mandate_of(given_section, assets)
    assert made.loss_budget_ppb == loss * PPB // 10_000
    assert made.long_budget_ppb >= made.loss_budget_ppb
    assert made.max_legs >= assets
    assert made.life_budget_ppb == PPB


def test_nodes_are_told_apart_by_whose_they_are_and_none_is_an_error():
    urls = ["https://k1@one.example/a", "https://one.example/b?key=2", "http://two.example:8545"]
    chain = Settings(chain={"rpc_urls": urls}).chain
    found = operators(chain)
    assert {host: len(rows) for host, rows in found.items()} == {"one.example": 2, "two.example:8545": 1}
    with pytest.raises(ConfigError, match="no node is configured"):
        rpc_of(Settings().chain)


def test_a_comparison_is_as_configured_where_nothing_else_is_asked():
    one = deployment(Settings(compare={"portfolios": 5, "policies": ["hold"], "seed": 3}))
    plain = compare_config(one, (AT, AT + timedelta(days=7)), PanelChoice())
    assert (plain.portfolios, plain.policies, plain.seed, plain.resolution) == (5, ("hold",), 3, "hour")
    asked = compare_config(one, (AT, AT + timedelta(days=7)), PanelChoice(2, ["gas_band"], 0.5, "5m", flat_gas=True))
    assert (asked.portfolios, asked.policies, asked.skill, asked.flat_gas) == (2, ("gas_band",), 0.5, True)
    assert compare_config(one, (AT, AT), PanelChoice(resolution="5m")).policies != ("hold",)


def test_forecasters_are_configured_by_the_portfolio_they_are_for():
    one = deployment(
        Settings(portfolio={"assets": ["ETH", "BTC"]}, models={"threads": 3, "embargo": "2h", "tune": False})
    )
    made = model_config(one)
    assert made.assets == ("ETH", "BTC")
    assert (made.threads, made.embargo_h, made.tune_seconds) == (3, 2, 0.0)
    assert made.tolerance == one.portfolio.caps

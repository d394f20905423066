"""A rehearsal lives through days that join on to today's, touches nothing of the project, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from lake.errors import NotEnoughData
from lake.store import Lake
from pipelines.cli import app
from pipelines.demo.rehearsal import ELSEWHERE, mandate_on_chain, rehearse
from pipelines.demo.rehearsal_lake import lived_again, newest_price
from pipelines.deployments import deployment
from pipelines.settings import load
from pipelines.wiring import lake_of
from policy.execution.checks.rules import PPB
from policy.localnet.packages import cache_dir
from tests.pipelines.market import project

EXTRA = """
[mandate]
max_turnover_bps = 4_000
max_slippage_bps = 80
loss_budget_bps = 25
[schedule]
rebalance = "6 */8 * * *"
"""
ASSETS = ["BTC", "ETH", "LINK"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = project(tmp_path_factory.mktemp("own"), EXTRA)
    file = made.root / "foredrift.toml"
    file.write_text(file.read_text().replace('assets = ["BTC", "ETH", "LINK"]', 'assets = ["USDC", "ETH", "DAI"]'))
    return load(file)


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its content's hash."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def own_tmp(tmp_path, monkeypatch):
    """A folder of temporary files that nobody else writes to."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def left(own_tmp: Path) -> tuple[list[Path], list[str]]:
    """What lies in the folder of temporary files, and the saved worlds of USDC, ETH and DAI alone."""
    worlds = (cache_dir() / "worlds").glob("*.world.json")
    mine = [p.name for p in worlds if set(json.loads(p.read_text())["tokens"]) == {"USDC", "ETH", "DAI"}]
    return list(own_tmp.iterdir()), mine


@pytest.mark.parametrize("days", [1, 7, 20])
def test_the_days_to_come_join_on_to_today_and_move_as_the_last_ones_did(settings, tmp_path, days):
    source, into, more = lake_of(settings), Lake(str(tmp_path / "lake")), timedelta(days=days)
    before = tree(Path(source.root))
    now, end = lived_again(source, into, ASSETS, days)
    assert tree(Path(source.root)) == before
    assert now == newest_price(source, ASSETS)
    assert end == now + more
    told = into.scan("prices").collect().sort("asset", "ts")
    known = told.filter(pl.col("available_at") <= now)
    recorded = source.scan("prices").filter(pl.col("asset").is_in(ASSETS)).collect().sort("asset", "ts")
    assert known.select(recorded.columns).equals(recorded)
    for asset in ASSETS:
        closes = told.filter(pl.col("asset") == asset)
        moves = closes.select("available_at", move=pl.col("close").log().diff())
        ahead = moves.filter(pl.col("available_at") > now)["move"].to_list()
        past = moves.filter(pl.col("available_at").is_between(now - more, now, closed="right"))["move"].to_list()
        assert ahead == pytest.approx(past, abs=1e-12)
        assert len(ahead) == 24 * days
    gas = into.scan("gas").collect().sort("ts")
    late = gas.filter(pl.col("available_at") > now)["base_fee_gwei"].to_list()
    past = gas.filter(pl.col("available_at").is_between(now - more, now, closed="right"))
    assert late == past["base_fee_gwei"].to_list()


def test_days_that_are_not_recorded_are_refused_by_name(settings, tmp_path):
    with pytest.raises(NotEnoughData, match="60 days before"):
        lived_again(lake_of(settings), Lake(str(tmp_path / "lake")), ASSETS, 60)
    with pytest.raises(NotEnoughData, match="no hourly prices of NONE"):
        lived_again(lake_of(settings), Lake(str(tmp_path / "lake")), ["NONE"], 1)


def test_the_vault_is_born_with_the_configured_limits(settings):
    made = mandate_on_chain(deployment(settings))
    assert (made.turnover_bps, made.leg_loss_bps, made.loss_budget_ppb) == (4_000, 80, 25 * PPB // 10_000)
    assert made.long_budget_ppb >= made.loss_budget_ppb


@pytest.mark.chain
def test_the_command_rehearses_reports_and_leaves_nothing(settings, tmp_path, own_tmp, monkeypatch):
    """Dollar coins and all: from cash, one day of decisions every eight hours."""
    for name in ELSEWHERE:
        monkeypatch.setenv(name, "json://127.0.0.1:9/never" if "NOTIFY" in name else "http://127.0.0.1:9")
    before = tree(settings.root)
    file, out = settings.root / "foredrift.toml", tmp_path / "out"
    words = ["rehearse", "--days", "1", "--config", str(file), "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--json", str(tmp_path / "out.json")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert tree(settings.root) == before
    assert left(own_tmp) == ([], [])
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
    told = json.loads((tmp_path / "out.json").read_text())
    assert sum(told["outcomes"].values()) == told["figures"]["decisions"] == 3
    assert told["figures"]["faults"] == 0
    assert told["figures"]["replayed_same"] == 3
    assert told["assets"] == ["USDC", "ETH", "DAI"]
    assert (tmp_path / "out" / "mandate.html").exists()
    assert "Rehearsed" in done.output
    sums = dict(line.split("  ")[::-1] for line in (tmp_path / "out" / "SHA256SUMS").read_text().splitlines())
    assert sums == {k: v for k, v in tree(tmp_path / "out").items() if k != "SHA256SUMS"}


@pytest.mark.chain
def test_an_interrupted_rehearsal_leaves_nothing_either(settings, own_tmp):
    before = tree(settings.root)

    def told(done, total, outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearse(deployment(settings), 1, told)
    assert tree(settings.root) == before
    assert left(own_tmp) == ([], [])

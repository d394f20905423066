"""``foredrift demo``: the whole loop on the built-in sample market, in one folder, repeatable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lake.private import STATE, private_folder, tighten
from lake.sources.sample import HOURS, START
from lake.units import utc
from pipelines.demo.demo_blocks import keep_blocks
from pipelines.deployments import deployment
from pipelines.reports import terminal
from pipelines.sections import SampleSection
from pipelines.settings import Settings, load
from pipelines.stages.compare import compare
from pipelines.stages.ingest import ingest_all
from pipelines.stages.rebalance import rebalance
from pipelines.vault_settings import VaultSettings, vaults_of
from pipelines.wiring import PanelChoice

TEST_DAYS = 84
SETTINGS = """# Made by `foredrift demo`: a simulated market, a simulated vault, the project's own MLflow store.
[portfolio]
assets = ["BTC", "ETH", "LINK", "UNI", "AAVE"]
nav_usd = 250_000

[mlflow]
tracking_uri = "sqlite:///{mlruns}/mlflow.db"
artifacts = "{mlruns}/artifacts"

[sources.sample]
seed = 7
start = "2024-01-01"
hours = 13_140

[models]
refit_every = "60d"
rounds = 60
trade_sizes_usd = [100_000]

[compare]
nav_usd = [100_000, 1_000_000]
bootstrap = 500
"""


def demo(folder: Path, *, portfolios: int, chain: bool) -> dict[str, Any]:
    """Run ingest, forecasts, comparison, one rebalance and 200 blocks; return their figures."""
    settings = prepare(folder)
    terminal.console.rule("1  ingest the sample market")
    with terminal.progress() as bar:
        reports = ingest_all(settings, [], None, end_of(settings.sources.sample), bar)
    terminal.ingest_reports(reports)
    terminal.console.rule("2  forecast walk-forward and compare the policies")
    end = utc(end_of(settings.sources.sample))
    start = end - timedelta(days=TEST_DAYS)
    with terminal.progress() as bar:
        outcome = compare(settings, start.isoformat(), end.isoformat(), bar, PanelChoice(portfolios))
    terminal.comparison(outcome)
    terminal.console.rule("3  rebalance a vault")
    result = _rebalance(settings, chain=chain)
    hedged = _hedge(vaults_of(settings)[0], utc(end_of(settings.sources.sample)), folder) if chain else None
    terminal.console.rule(f"{5 if chain else 4}  keep a vault block by block")
    kept = keep_blocks(deployment(settings), end - timedelta(days=1), folder)
    terminal.console.rule()
    terminal.say(f"report: {outcome.report}")
    terminal.say("compare in the browser: ", ("foredrift ui", "bold"))
    page = f"foredrift portfolio --serve --config {folder / 'foredrift.toml'}"
    terminal.say("the portfolio in the browser: ", (page, "bold"), f", then http://127.0.0.1:{settings.page.port}/")
    if STATE in folder.resolve().parts:
        tighten(folder)
    return {"comparison": outcome.json, "rebalance": result, "hedge": hedged, "keep": kept}


def prepare(folder: Path) -> Settings:
    """Return the demo's settings, written to ``folder`` the first time; its tracking store is the working folder's."""
    private_folder(folder)
    file = folder / "foredrift.toml"
    if not file.exists():
        up = Path(*[".."] * len(folder.parts)) if not folder.is_absolute() else Path.cwd()
        file.write_text(SETTINGS.format(mlruns=(up / "mlruns").as_posix()), encoding="utf-8")
    return load(file)


def end_of(sample: SampleSection | None) -> str:
    """Return the end of the sample market."""
    assert sample is not None
    start = utc(sample.start) if sample.start else START
    return (start + timedelta(hours=sample.hours or HOURS)).isoformat()


def _hedge(deployment: VaultSettings, end: datetime, folder: Path) -> Mapping[str, Any] | None:
    """Compare hedge rules and hedge a book on a local chain; None, and said so, where there is no Node.js."""
    from pipelines.demo.demo_chain import NoNode
    from pipelines.demo.demo_hedge import hedge_demo

    terminal.console.rule("4  hedge a book of options")
    try:
        return hedge_demo(deployment, end, folder)
    except NoNode as reason:
        terminal.say((str(reason), "yellow"), "; no hedge without it")
        return None


def _rebalance(settings: Settings, *, chain: bool) -> Mapping[str, Any]:
    """Rebalance the vault of a local chain, or the simulated one where there is no Node.js (and say so)."""
    end = utc(end_of(settings.sources.sample))
    if chain:
        from pipelines.demo.demo_chain import NoNode, rebalance_on_local_chain

        try:
            return rebalance_on_local_chain(settings, end)
        except NoNode as reason:
            terminal.say((str(reason), "yellow"), "; using the simulated vault")
    result: dict[str, Any] = {}
    for days in (60, 30, 0):
        moment = end - timedelta(days=days)
        result = rebalance(settings, live=True, as_of=moment.isoformat(), on_plan=terminal.plan)
        terminal.settlement(result)
    return result

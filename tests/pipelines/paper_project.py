"""A portfolio that has lived on paper for six weeks, for the pictures of the documentation.

The sample market up to now, forecasts walked forward over it, a comparison, and a decision twice a day that
executes on the simulated vault: what the page then shows was decided, executed and recorded by the program itself.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from pipelines.deployments import Deployment, deployment
from pipelines.settings import Settings, load
from pipelines.stages.compare import compare
from pipelines.stages.forecast import forecast
from pipelines.stages.ingest import ingest_all
from pipelines.stages.train import train
from pipelines.wiring import now

WEEKS, EVERY_H = 6, 12
SETTINGS = """[portfolio]
name = "treasury"
assets = ["USDC", "BTC", "ETH", "LINK"]
targets = [0.1, 0.4, 0.35, 0.15]
tolerance = 0.01
scenario = "hard"
nav_usd = 1_000_000

[sources.sample]
seed = 7
hours = 2_880

[models]
refit_every = "30d"
train_window = "60d"
rounds = 40
threads = 1
trade_sizes_usd = [100_000]

[vault]
start = "targets"

[mandate]
loss_budget_bps = 50

[compare]
portfolios = 4
nav_usd = [100_000, 1_000_000]
bootstrap = 500
"""


def made(folder: Path) -> Settings:
    """Return a project in ``folder`` with a market, models, forecasts and a comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "foredrift.toml"
    file.write_text(SETTINGS, encoding="utf-8")
    settings = load(file)
    ingest_all(settings, [], None, None)
    end = now().replace(minute=0, second=0, microsecond=0)
    one = deployment(settings)
    train(one, ["gas", "drift", "slippage"], (end - timedelta(weeks=WEEKS)).isoformat(), end.isoformat())
    compare(settings, (end - timedelta(weeks=4)).isoformat(), end.isoformat())
    return settings


def live(one: Deployment, end: datetime, weeks: int = WEEKS) -> int:
    """Decide and execute every EVERY_H hours of the ``weeks`` before ``end``; return how often it decided."""
    times = range(weeks * 168 // EVERY_H + 1)
    first = end - timedelta(weeks=weeks)
    for i in times:
        one.step(first + timedelta(hours=i * EVERY_H), live=True)
    return len(times)


def lived(folder: Path) -> Settings:
    """Return the project in ``folder``, made and lived up to now, with forecasts for what comes."""
    settings = made(folder)
    one = deployment(settings)
    forecast(one, None)  # known to the last decision alone
    live(one, now() - timedelta(minutes=3))
    return settings

"""A small project on the sample market, for tests of the stages."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from lake.units import utc
from pipelines.settings import Settings, load
from pipelines.stages.ingest import ingest_all

HOURS = 24 * 60
START = utc("2024-01-01")
END = START + timedelta(hours=HOURS)
TEXT = f"""
[portfolio]
assets = ["BTC", "ETH", "LINK"]
nav_usd = 250_000
[sources.sample]
hours = {HOURS}
[policy]
kind = "gas_band"
[compare]
nav_usd = [100_000]
bootstrap = 100
"""


def project(root: Path, extra: str = "") -> Settings:
    """A project folder whose lake holds sixty days of the sample market."""
    root.mkdir(parents=True, exist_ok=True)
    file = root / "foredrift.toml"
    file.write_text(TEXT + extra)
    settings = load(file)
    ingest_all(settings, [], None, END.isoformat())
    return settings


def moment(hours_before_end: int) -> str:
    """A decision time as text."""
    at: datetime = END - timedelta(hours=hours_before_end)
    return at.isoformat()

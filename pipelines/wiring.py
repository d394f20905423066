"""From settings to objects: the one place that knows which implementation a setting means."""

from __future__ import annotations

from datetime import UTC, datetime

from lake.store import Lake
from pipelines.settings import Settings, lake_options


def lake_of(settings: Settings) -> Lake:
    """Return the project's lake: an S3 URL as it is, a folder relative to the settings file."""
    path = settings.lake.path
    return Lake(path if "://" in path else str(settings.path(path)), lake_options(settings))


def now() -> datetime:
    """Return the present moment, UTC."""
    return datetime.now(UTC)

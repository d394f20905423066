"""Issue forecasts as of a moment with the champions, judged before they are written; written once, never again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lake.errors import ModelError, NotEnoughData
from lake.store import Lake
from lake.units import duration, utc
from models.serving.live import LiveModel, issue, recent
from models.serving.novelty import Inputs
from models.serving.trust import Series, Trust
from pipelines.deployments import Deployment
from pipelines.experiments.model_lifecycle import registry_of
from pipelines.monitor import model_status
from pipelines.monitor.forecast_health import health
from pipelines.stages.surface import publish_surface
from pipelines.wiring import families_of, lake_of, model_config, now

_KNOWN_DAYS = 60  # of logged forecasts that tell which series a model that cannot be loaded should have spoken for


def forecast(deployment: Deployment, as_of: str | None) -> dict[str, Any]:
    """Issue forecasts for the last full hour at or before ``as_of`` (UTC; None: now) and append them to the lake.

    Also builds the deployment's reservation-price surface from the gas of the last 30 days (not for an ``as_of``).
    Returns {issued_at, rows: [{target, key, horizon_h, q05, q50, q95, mean, abstains}], abstained, surface: manifest or
    {refused}}; ``abstains`` is the reason, empty for a row that speaks. Rows already issued for that hour are returned
    as they were issued. Raises NotEnoughData while no family has a champion.
    """
    at = utc(as_of) if as_of else now()
    at = at.replace(minute=0, second=0, microsecond=0)
    lake, cfg = lake_of(deployment), model_config(deployment)
    registry = registry_of(deployment)
    models: dict[str, LiveModel] = {}
    inputs: dict[str, dict[str, Inputs]] = {}
    lost: dict[Series, str] = {}
    held: dict[tuple[str, int], tuple[float, int]] = {}
    versions: dict[str, tuple[str, datetime]] = {}
    broken: list[pl.DataFrame] = []
    for name, family in families_of().items():
        champion = registry.champion(name)
        if champion is None:
            continue
        versions[name] = champion.model_version, champion.trained_at
        try:
            models[name], inputs[name] = registry.load(champion, family, cfg)
        except ModelError as error:
            targets = [s.name for s in family.targets]
            broken.append(silent(lake, targets, at, champion.model_version, f"champion cannot be loaded: {error}"))
            continue
        found = health(lake, cfg, family, at)
        lost |= found.lost
        held |= found.coverage
    if not models and not broken:
        raise NotEnoughData("no family has a champion yet: foredrift train")
    model_status.note(deployment.path(model_status.FILE), at, versions, held)
    view = recent(lake, at)
    trust = Trust(view, duration(deployment.models.expiry), inputs, lost)
    issued = [issue(view, cfg, models, at, trust)] if models else []
    rows = pl.concat([*issued, *broken], how="diagonal")
    if not rows.is_empty():
        lake.write("forecasts", rows)
    built = {"refused": "replayed forecasts build none"} if as_of else publish_surface(deployment, lake, at)
    return as_result(lake, at) | {"surface": built}


def silent(lake: Lake, targets: list[str], at: datetime, version: str, reason: str) -> pl.DataFrame:
    """Return an abstaining row at ``at`` for every series of ``targets`` logged in the last _KNOWN_DAYS."""
    quantiles = ("q05", "q25", "q50", "q75", "q95", "mean")
    return (
        lake.scan("forecasts", as_of=at)
        .filter(pl.col("target").is_in(targets) & (pl.col("issued_at") >= at - timedelta(days=_KNOWN_DAYS)))
        .select("target", "key", "horizon_s")
        .unique()
        .with_columns(
            *(pl.lit(None, pl.Float64).alias(c) for c in quantiles),
            issued_at=pl.lit(at).cast(pl.Datetime("us", "UTC")),
            model_version=pl.lit(version),
            abstain=pl.lit(value=True),
            reason=pl.lit(reason),
            available_at=pl.lit(at).cast(pl.Datetime("us", "UTC")),
        )
        .sort("target", "key", "horizon_s")
        .collect()
    )


def as_result(lake: Lake, at: datetime) -> dict[str, Any]:
    """Return the rows logged for ``at`` as plain data."""
    stored = lake.scan("forecasts").filter(pl.col("issued_at") == at).sort("target", "key", "horizon_s").collect()
    rows = [
        {"target": r["target"], "key": r["key"], "horizon_h": r["horizon_s"] // 3600, "q05": r["q05"], "q50": r["q50"],
         "q95": r["q95"], "mean": r["mean"], "abstains": r["reason"] if r["abstain"] else ""}
        for r in stored.iter_rows(named=True)
    ]  # fmt: skip
    return {"issued_at": at.isoformat(), "rows": rows, "abstained": int(stored["abstain"].sum())}

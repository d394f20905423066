"""The life of a model: logged and registered after training, judged on evidence, put in force or out of it by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from lake.errors import ConfigError, ModelError, NotEnoughData
from lake.private import private_folder
from lake.store import Lake, frame_digest
from lake.units import DAY_S, duration
from models.base import Family
from models.boosting.gbm import schema_hash
from models.config import ModelConfig
from models.evaluation.calibrate import calibrate_rows
from models.registry import promotion
from models.registry.baseline_champion import BaselineModel
from models.registry.promotion import Promotion
from models.registry.registry import CHALLENGER, CHAMPION, Registry, Version, expired
from models.serving import novelty
from models.serving.live import LiveModel
from models.training.walkforward import TrainResult, WalkRecord
from pipelines.experiments import client, saved_view
from pipelines.monitor.forecast_value import cost_ratio
from pipelines.progress import Progress, silent
from pipelines.reports.model_charts import draw
from pipelines.vault_settings import VaultSettings
from pipelines.wiring import families_of, lake_of, model_config, now

BASELINE = "baseline:"
_ROWS = "walkforward.parquet"

Table = tuple[str, list[str], list[list[Any]]]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts of one training run: plain data, a table for people, and where the runs are in MLflow."""

    json: list[dict[str, Any]]
    table: Table
    url: str | None


def registry_of(stores: client.Stores) -> Registry:
    """Return the project's model registry."""
    return Registry(client.client(stores), private_folder(stores.path(".foredrift/models")))


def register(deployment: VaultSettings, cfg: ModelConfig, result: TrainResult, progress: Progress = silent) -> Judged:
    """Log and register every family's new model, judge it against its champion and promote on evidence.

    A family without champion first gets its best baseline, so a model always has to beat something.
    """
    registry = registry_of(deployment)
    experiment = client.experiment(deployment, registry.mlf, client.FORECASTS)
    lake = lake_of(deployment)
    verdicts = []
    for done, (name, model) in enumerate(result.live.items()):
        progress("judge", done, len(result.live))
        record = result.records[name]
        champion = registry.champion(name)
        if champion is None:
            champion = _first_champion(registry, experiment.experiment_id, cfg, model.family, record, model.trained_at)
        version = _log_model(registry, experiment.experiment_id, cfg, result, model, record)
        verdicts.append(_judge(deployment, registry, lake, cfg, model.family, version, champion, record))
    progress("judge", len(result.live), len(result.live))
    names = ["family", "version", "against", "skill", "policy cost", "decision", "why"]
    cells = [
        [v["family"], v["version"], v["reference"], v["skill_text"], v["cost_text"], v["decision"], v["reason"]]
        for v in verdicts
    ]
    url = saved_view.link("http://127.0.0.1:5310", experiment.experiment_id, None, chart=False)
    return Judged(verdicts, ("Promotion", names, cells), url)


def _first_champion(
    registry: Registry, experiment_id: str, cfg: ModelConfig, family: Family, record: WalkRecord, at: datetime
) -> Version:
    name = promotion.best_baseline(record.baselines, record.outcomes, family.targets)
    if name is None:
        raise NotEnoughData(f"{family.name}: no baseline could be scored, so there is nothing to judge a model against")
    version = _register_baseline(registry, experiment_id, cfg, family, record, name, at)
    registry.record(version, {"decision": "first champion", "reason": f"{name} is the best baseline"})
    registry.point(CHAMPION, version)
    return version


def _register_baseline(
    registry: Registry,
    experiment_id: str,
    cfg: ModelConfig,
    family: Family,
    record: WalkRecord,
    name: str,
    at: datetime,
) -> Version:
    fitted = BaselineModel.fit(family, cfg, name, record.known)
    _, corrections = calibrate_rows(record.baselines[name], record.outcomes, family.targets)
    model = LiveModel(family, fitted, corrections, at)
    tags = {"family": family.name, "kind": "baseline"}
    with client.run(registry.mlf, experiment_id, f"{family.name} {name}", tags, {"baseline": name}) as run_id:
        return registry.register(run_id, model, novelty.learn(record.known, cfg.seed), BASELINE + name, "baseline")


def _log_model(
    registry: Registry, experiment_id: str, cfg: ModelConfig, result: TrainResult, model: LiveModel, record: WalkRecord
) -> Version:
    """Log one run with everything that explains the model, and register it; the same training is registered once."""
    name = model.family.name
    recipe = recipe_of(cfg, record.known)
    digest = frame_digest(record.known)
    for known in registry.versions(name):
        if known.tags.get("data") == digest and known.recipe == recipe:
            return known
    tags = {"family": name, "kind": "lightgbm", "recipe": recipe, "data": digest}
    params = {k: str(getattr(cfg, k))[:500] for k in cfg.names()} | {"model_version": model.version}
    title = f"{name} {model.trained_at:%Y-%m-%d}"
    with client.run(registry.mlf, experiment_id, title, tags, params) as run_id:
        client.log_values(registry.mlf, run_id, _values(result, name))
        first, last = record.known["ts"].min(), record.known["ts"].max()
        client.log_dataset(registry.mlf, run_id, f"{name} training rows", digest, f"{first!s} .. {last!s}")
        with tempfile.TemporaryDirectory() as scratch:
            _write_artifacts(Path(scratch), result, model, record)
            registry.mlf.log_artifacts(run_id, scratch)
        version = registry.register(run_id, model, novelty.learn(record.known, cfg.seed), recipe)
    registry.mlf.set_model_version_tag(version.name, version.number, "data", digest)
    return version


def recipe_of(cfg: ModelConfig, known: pl.DataFrame) -> str:
    """Return what names how a model was made: settings and columns, not the data."""
    return f"{cfg.fingerprint()}-{schema_hash(sorted(known.columns))}"


def _values(result: TrainResult, family: str) -> dict[str, float]:
    """Return pinball, coverage and skills by target and horizon, keys averaged, under short names."""
    targets = {s.name for s in result.live[family].family.targets}
    own = result.scores.filter((pl.col("model") == "lightgbm") & pl.col("target").is_in(targets))
    skills = [c for c in own.columns if c.startswith("skill_")]
    table = own.group_by("target", "horizon_s").agg(pl.col("pinball", "coverage90", *skills).mean())
    values: dict[str, float] = {}
    for row in table.to_dicts():
        stem = f"{row['target']}_{row['horizon_s'] // 3600}h"
        values |= {
            f"{c.removesuffix('90')}/{stem}": float(row[c])
            for c in ("pinball", "coverage90", *skills)
            if row[c] is not None
        }
    return values


def _write_artifacts(folder: Path, result: TrainResult, model: LiveModel, record: WalkRecord) -> None:
    """Write tables and pictures: scores, folds, importances, reliability, and the walk-forward rows themselves."""
    name = model.family.name
    targets = [s.name for s in model.family.targets]
    tables = {
        "scores": result.scores.filter(pl.col("target").is_in(targets)),
        "folds": result.folds.filter(pl.col("family") == name),
        "importances": model.fitted.importances(),
        "reliability": result.reliability.filter(pl.col("target").is_in(targets)),
    }
    for title, table in tables.items():
        table.write_csv(folder / f"{title}.csv")
    record.rows.write_parquet(folder / _ROWS)
    draw(folder / "plots", tables["importances"], tables["reliability"], tables["scores"])


def _judge(
    own: VaultSettings,
    registry: Registry,
    lake: Lake,
    cfg: ModelConfig,
    family: Family,
    version: Version,
    champion: Version,
    record: WalkRecord,
) -> dict[str, Any]:
    if version.number == champion.number:
        found = {"decision": "champion already", "reason": "trained on the same data with the same settings"}
        return _verdict(version, champion.model_version, found, None)
    name, rows = _reference(registry, cfg, family, version, champion, record)
    first, last = record.rows["issued_at"].min(), record.rows["issued_at"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    worth = partial(cost_ratio, own, lake, (first, last))
    decision = promotion.judge(record.rows, rows, record.outcomes, family.targets, name, worth)
    registry.record(version, decision.plain())
    registry.mlf.log_dict(version.run_id, decision.plain(), "decision.json")
    registry.point(CHAMPION if decision.promote else CHALLENGER, version)
    return _verdict(version, name, decision.plain(), decision)


def _verdict(version: Version, reference: str, plain: Mapping[str, Any], decision: Promotion | None) -> dict[str, Any]:
    skill = cost = "-"
    if decision is not None:
        skill = f"{100 * decision.skill.value:+.1f} %"
        cost = "-" if decision.cost is None else f"{decision.cost.value:.4f}"
    return {
        **plain, "family": version.family, "version": version.number, "reference": reference, "skill_text": skill,
        "cost_text": cost,
    }  # fmt: skip


def _reference(
    registry: Registry, cfg: ModelConfig, family: Family, version: Version, champion: Version, record: WalkRecord
) -> tuple[str, pl.DataFrame]:
    """Return what the challenger is judged against, and its forecasts over the same hours.

    A baseline champion: its walk-forward. A refit of the champion's own recipe: the best baseline, for the recipe has
    to prove itself again. Another recipe: what the champion issued walk-forward, and since then as it stands.
    """
    if champion.recipe.startswith(BASELINE) and champion.recipe.removeprefix(BASELINE) in record.baselines:
        name = champion.recipe.removeprefix(BASELINE)
        return name, record.baselines[name]
    if champion.recipe == version.recipe:
        name = promotion.best_baseline(record.baselines, record.outcomes, family.targets) or ""
        return name, record.baselines[name]
    issued = pl.read_parquet(registry.mlf.download_artifacts(champion.run_id, _ROWS))
    later = record.known.filter(
        (pl.col("ts") >= champion.trained_at) & (pl.col("ts") >= pl.lit(record.rows["issued_at"].min()))
    )
    if not later.is_empty():
        model, _ = registry.load(champion, family, cfg)
        try:
            standing = model.corrections.apply(model.fitted.forecasts(later), family.targets).frame()
        except ModelError:
            standing = issued.clear()
        issued = pl.concat([issued, standing.select(issued.columns)])
    return f"version {champion.number}", issued.unique(["target", "key", "issued_at", "horizon_s"], keep="first")


def report(deployment: VaultSettings, at: datetime | None = None) -> dict[str, Any]:
    """Return every version, every decision and what is due, for ``foredrift models``."""
    at = at or now()
    registry = registry_of(deployment)
    expiry = duration(deployment.models.expiry)
    versions: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    for name in families_of():
        for v in registry.versions(name):
            state = "expired" if expired(v, expiry, at) else "in force" if CHAMPION in v.alias else "kept"
            versions.append(
                {"family": name, "version": v.number, "alias": v.alias, "kind": v.kind, "model": v.model_version,
                 "trained_until": v.trained_at.isoformat(), "age_d": _days(at - v.trained_at),
                 "state": state}
            )  # fmt: skip
        decisions += registry.decisions(name)
    return {
        "versions": versions,
        "decisions": sorted(decisions, key=lambda d: str(d["at"])),
        "due": due(deployment, at),
    }


def _days(age: timedelta) -> float:
    return round(age.total_seconds() / DAY_S, 1)


def due(deployment: VaultSettings, at: datetime, registry: Registry | None = None) -> list[str]:
    """Return why models should be trained again now: none yet, old by schedule, expired, or what was lost since."""
    from pipelines.monitor.forecast_health import losses_of

    registry = registry or registry_of(deployment)
    refit, expiry = duration(deployment.models.refit_every), duration(deployment.models.expiry)
    reasons = []
    for name in families_of():
        known = registry.versions(name)
        champion = next((v for v in known if CHAMPION in v.alias), None)
        if champion is None:
            reasons.append(f"{name}: never trained")
            continue
        if expired(champion, expiry, at):
            reasons.append(f"{name}: champion expired {(at - champion.trained_at - expiry).days} d ago")
        newest = max(v.trained_at for v in known)
        if at - newest > refit:
            reasons.append(f"{name}: last trained on data up to {newest:%Y-%m-%d}, refit every {refit.days} d")
    return reasons + losses_of(lake_of(deployment), model_config(deployment), at)


def promote(stores: client.Stores, family: str, version: str, reason: str) -> str:
    """Make ``version`` champion by hand; the reason is kept with it. Raises ConfigError without one."""
    reason = _reason(reason)
    registry = registry_of(stores)
    chosen = registry.version(_family(family), version)
    registry.record(chosen, {"decision": "promoted by hand", "reason": reason})
    registry.point(CHAMPION, chosen)
    return f"{family}: version {chosen.number} ({chosen.model_version}) is champion; {reason}"


def demote(stores: client.Stores, family: str, reason: str) -> str:
    """Put the newest baseline back as champion by hand; the reason is kept. Raises ConfigError where there is none."""
    reason = _reason(reason)
    registry = registry_of(stores)
    known = registry.versions(_family(family))
    baseline = next((v for v in known if v.kind == "baseline"), None)
    champion = registry.champion(family)
    if baseline is None or champion is None:
        raise ConfigError(f"{family} has no baseline to fall back on; foredrift train registers one")
    if champion.number == baseline.number:
        raise ConfigError(f"{family}: the baseline (version {baseline.number}) is champion already")
    registry.record(champion, {"decision": "demoted by hand", "reason": reason})
    registry.point(CHAMPION, baseline)
    return f"{family}: version {baseline.number} ({baseline.model_version}) is champion again; {reason}"


def _reason(reason: str) -> str:
    if not reason.strip():
        raise ConfigError("a reason is needed, for the record: --reason TEXT")
    return reason.strip()


def _family(family: str) -> str:
    known = families_of()
    if family not in known:
        raise ConfigError(f"there is no forecaster {family}; there are {', '.join(known)}")
    return family

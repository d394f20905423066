"""Registered models in MLflow: one registered model a family, its versions, and who is champion or challenger.

A version is a folder of plain files (LightGBM text, JSON, numeric arrays; no pickle) among the artifacts of the run
that trained it. Decisions are kept as tags of the version they are about, so the record lives where the model does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from lake.errors import ConfigError, ModelError
from models.base import Family, SavedFitted
from models.config import ModelConfig
from models.families import families
from models.registry import baseline_champion
from models.serving import novelty
from models.serving.live import LiveModel
from models.serving.novelty import Inputs

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

PREFIX = "foredrift-"
CHAMPION, CHALLENGER = "champion", "challenger"
ARTIFACT = "model"
_DECISION = "decision."
_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""What MLflow answers where there is no such model, or no such alias of it."""


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version. ``kind`` is "lightgbm" or "baseline"."""

    family: str
    number: str
    run_id: str
    alias: str
    kind: str
    model_version: str
    recipe: str
    trained_at: datetime
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return its name in the registry."""
        return PREFIX + self.family


@dataclass(frozen=True, slots=True)
class Registry:
    """The registered models behind ``mlf``; folders of versions are copied once to ``cache``."""

    mlf: MlflowClient
    cache: Path

    def versions(self, family: str) -> list[Version]:
        """Return the family's versions, newest first; ModelError where the registry does not answer."""
        from mlflow.exceptions import MlflowException

        try:
            aliases = self.mlf.get_registered_model(PREFIX + family).aliases
        except MlflowException as error:
            _unless_absent(error)
            return []
        named: dict[str, list[str]] = {}
        for alias, number in aliases.items():
            named.setdefault(str(number), []).append(alias)
        found = self.mlf.search_model_versions(f"name='{PREFIX}{family}'", max_results=1_000)
        versions = [_version(v, family, ", ".join(sorted(named.get(str(v.version), [])))) for v in found]
        return sorted(versions, key=lambda v: int(v.number), reverse=True)

    def champion(self, family: str) -> Version | None:
        """Return the family's champion, None while there is none; ModelError where the registry does not answer."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.mlf.get_model_version_by_alias(PREFIX + family, CHAMPION)
        except MlflowException as error:
            _unless_absent(error)
            return None
        return _version(found, family, CHAMPION)

    def version(self, family: str, number: str) -> Version:
        """Return one version; raises ConfigError with the known ones when there is no such one."""
        known = self.versions(family)
        for one in known:
            if number in {one.number, one.model_version}:
                return one
        have = ", ".join(v.number for v in known) or "none"
        raise ConfigError(f"there is no version {number} of {family}; there are: {have}")

    def register(
        self, run_id: str, model: LiveModel, inputs: Mapping[str, Inputs], recipe: str, kind: str = "lightgbm"
    ) -> Version:
        """Store ``model`` with its training inputs as an artifact of ``run_id`` and register it; return the version."""
        from mlflow.exceptions import MlflowException

        family = model.family.name
        staged = self.cache / f".{family}-{run_id}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        model.save(staged)
        novelty.save(inputs, staged)
        self.mlf.log_artifacts(run_id, str(staged), ARTIFACT)
        shutil.rmtree(staged)
        try:
            self.mlf.get_registered_model(PREFIX + family)
        except MlflowException as error:
            _unless_absent(error)
            self.mlf.create_registered_model(PREFIX + family)
        source = f"{self.mlf.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
        tags = {
            "kind": kind, "model_version": model.version, "recipe": recipe, "trained_at": model.trained_at.isoformat(),
        }  # fmt: skip
        made = self.mlf.create_model_version(PREFIX + family, source, run_id, tags=tags)
        return _version(made, family, "")

    def point(self, alias: str, version: Version) -> None:
        """Make ``alias`` name ``version``; a version that becomes champion is no challenger any more."""
        self.mlf.set_registered_model_alias(version.name, alias, version.number)
        if alias == CHAMPION:
            aliases = self.mlf.get_registered_model(version.name).aliases
            if str(aliases.get(CHALLENGER)) == version.number:
                self.mlf.delete_registered_model_alias(version.name, CHALLENGER)

    def record(self, version: Version, decision: Mapping[str, Any], at: datetime | None = None) -> None:
        """Keep a decision about ``version``: JSON-able, with "decision" and "reason"."""
        moment = (at or datetime.now(UTC)).isoformat()
        text = json.dumps({**decision, "at": moment, "family": version.family, "version": version.number})
        tag = _DECISION + moment.replace(":", "-").replace("+", "_")
        self.mlf.set_model_version_tag(version.name, version.number, tag, text)

    def decisions(self, family: str) -> list[dict[str, Any]]:
        """Return every decision about the family's versions, oldest first."""
        found = [
            json.loads(text)
            for version in self.versions(family)
            for tag, text in version.tags.items()
            if tag.startswith(_DECISION)
        ]
        return sorted(found, key=lambda d: str(d["at"]))

    def folder(self, version: Version) -> Path:
        """Return the version's files on this machine: in place for a local store, else copied once."""
        source = self.mlf.get_model_version(version.name, version.number).source or ""
        if source.startswith("file:"):
            return Path(url2pathname(urlparse(source).path))
        local = self.cache / f"{version.family}-{version.number}-{version.run_id}"
        if not local.exists():
            partial = self.cache / f".{local.name}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self.mlf.download_artifacts(version.run_id, ARTIFACT, str(partial))
            (partial / ARTIFACT).rename(local)
            shutil.rmtree(partial)
        return local

    def load(self, version: Version, family: Family, cfg: ModelConfig) -> tuple[LiveModel, dict[str, Inputs]]:
        """Return the version ready to issue, and its training inputs; raises ModelError when files do not fit."""
        return load(self.folder(version), family, cfg)


def load(folder: Path, family: Family, cfg: ModelConfig) -> tuple[LiveModel, dict[str, Inputs]]:
    """Return the model in ``folder`` and its training inputs; raises ModelError when files are missing or altered."""
    fitted: SavedFitted
    if (folder / baseline_champion.FILE).exists():
        fitted = baseline_champion.BaselineModel.read(folder, family, cfg)
    else:
        known = families()
        if family.name not in known:
            raise ModelError(f"nothing reads saved models of family {family.name!r}; known are {', '.join(known)}")
        fitted = known[family.name].reader().load(folder)
    return LiveModel.load(folder, family, fitted), novelty.load(folder)


def _unless_absent(error: MlflowException) -> None:
    """Raise ModelError unless MLflow says that there is no such model: a registry that fails is no empty one."""
    if error.error_code in _ABSENT:
        return
    first = " ".join(str(error).split())[:160]
    raise ModelError(
        f"the model registry does not answer ({first}): nothing is known of its champions; look at the tracking store, "
        "[mlflow] tracking_uri or MLFLOW_TRACKING_URI"
    ) from error


def _version(found: ModelVersion, family: str, alias: str) -> Version:
    tags = dict(found.tags)
    return Version(
        family, str(found.version), str(found.run_id), alias, tags.get("kind", "lightgbm"),
        tags.get("model_version", ""), tags.get("recipe", ""), datetime.fromisoformat(tags["trained_at"]), tags,
    )  # fmt: skip


def expired(version: Version, expiry: timedelta, at: datetime) -> bool:
    """Return whether ``version`` was trained longer than ``expiry`` before ``at``."""
    return at - version.trained_at > expiry

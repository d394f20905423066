"""LightGBM as every family uses it: quantile boosters on one binned matrix, saved as text and JSON, never pickled."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from lake.errors import ModelError

Array = npt.NDArray[np.float64]

PARAMS: dict[str, Any] = {
    # Small trees, strong shrinkage: a few thousand overlapping hours hold only a few hundred independent ones.
    "learning_rate": 0.1,
    "num_leaves": 8,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "feature_pre_filter": False,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}

MANIFEST = "model.json"


def fit_quantiles(
    x: Array,
    y: Array,
    levels: Sequence[float],
    rounds: int,
    seed: int,
    weight: Array | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[lgb.Booster]:
    """Return one quantile booster per level, all on the same binned matrix; rows with NaN in ``y`` are left out."""
    known = np.isfinite(y)
    settings = {**PARAMS, **(params or {}), "objective": "quantile", "seed": seed}
    data = lgb.Dataset(
        x[known],
        label=y[known],
        weight=None if weight is None else weight[known],
        params={k: v for k, v in settings.items() if k in ("feature_pre_filter", "num_threads", "verbose")},
        free_raw_data=False,
    )
    return [lgb.train({**settings, "alpha": level}, data, num_boost_round=rounds) for level in levels]


def predict(boosters: Sequence[lgb.Booster], x: Array) -> Array:
    """Return (n, len(boosters)) predictions, one thread."""
    return np.column_stack([b.predict(x, num_threads=1) for b in boosters])


def gains(booster: lgb.Booster, features: Sequence[str]) -> dict[str, float]:
    """Return the share of split gain by feature; they sum to 1 unless the booster never split."""
    gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    total = gain.sum()
    return dict(zip(features, (gain / total if total > 0 else gain).tolist(), strict=True))


def schema_hash(features: Sequence[str]) -> str:
    """Return 12 hex digits over the feature names in order."""
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:12]


@cache
def git_sha() -> str:
    """Return the revision of the source tree, "unknown" where it is no git checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


@dataclass(frozen=True, slots=True)
class BoosterBundle:
    """Boosters by name with what is needed to use them again: feature names and any JSON-able extras."""

    family: str
    version: str
    features: tuple[str, ...]
    boosters: Mapping[str, lgb.Booster]
    extras: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``<name>.txt`` for every booster and ``model.json`` last, so that a torn save never loads."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, booster in self.boosters.items():
            (folder / f"{name}.txt").write_text(booster.model_to_string())
        manifest = {
            "family": self.family,
            "version": self.version,
            "features": list(self.features),
            "schema_hash": schema_hash(self.features),
            "git_sha": git_sha(),
            "boosters": {n: _file_hash(folder / f"{n}.txt") for n in self.boosters},
            "extras": self.extras,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))

    @classmethod
    def load(cls, folder: Path, family: str) -> BoosterBundle:
        """Read what ``save`` wrote; raises ModelError when a file is missing, altered or of another family."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except (FileNotFoundError, json.JSONDecodeError) as error:
            raise ModelError(f"{folder} holds no complete model ({MANIFEST}): {error}") from error
        if manifest["family"] != family:
            raise ModelError(f"{folder} holds a {manifest['family']} model, {family} was asked for")
        features = tuple(manifest["features"])
        altered = [
            n
            for n, sha in manifest["boosters"].items()
            if not (folder / f"{n}.txt").exists() or _file_hash(folder / f"{n}.txt") != sha
        ]
        if altered or schema_hash(features) != manifest["schema_hash"]:
            raise ModelError(f"{folder}: files do not match their manifest: {altered or 'features'}; train again")
        boosters = {n: lgb.Booster(model_str=(folder / f"{n}.txt").read_text()) for n in manifest["boosters"]}
        return cls(family, manifest["version"], features, boosters, manifest["extras"])


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

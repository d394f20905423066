"""Is an input like those a model was trained on? The dissimilarity index, and a check of every feature's range.

Meyer and Pebesma (2021), "Predicting into unknown space?": DI = distance to the nearest training input over the mean
distance between training inputs. The threshold is learnt: the largest DI that later training rows had to
earlier ones, which is what an honest future looks like. Distances are root mean squares over the features both rows
know, in robust units (median and interquartile range); a feature that leaves everything seen by far is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import polars as pl

from features.panel import feature_columns
from lake.errors import ModelError
from models.arrays import Panel, matrix

Array = npt.NDArray[np.float64]

SAMPLE = 400
"""Training rows kept: with 400 the nearest one is found in a millisecond, and DI changes little beyond."""

MARGIN = 1.5
"""Factor on the largest DI within training: markets do turn somewhat stranger than any sample of their past."""

BEYOND = 10.0
"""How many times farther than anything in training one feature may be: past that it is a unit, not a market."""

_EARLIER = 0.6  # share of the training rows that the later ones are measured against
_LIMIT = 1e6  # robust units beyond which distance says nothing more
_LEAST = 50  # training rows without which nothing is judged
FILE = "novelty.npz"


@dataclass(frozen=True, slots=True)
class Points:
    """Rows (m, k) ready to be measured: ``value`` with zero where unknown, ``known`` ones and zeros."""

    value: Array
    square: Array
    known: Array

    @classmethod
    def of(cls, x: Array) -> Points:
        """Return the rows of ``x`` (m, k), NaN where unknown."""
        value = np.where(np.isfinite(x), x, 0.0)
        return cls(value, value**2, np.isfinite(x).astype(np.float64))

    def distances(self, to: Points) -> Array:
        """Return (n, m) root mean square differences over the features known in both rows."""
        total = self.square @ to.known.T + self.known @ to.square.T - 2.0 * self.value @ to.value.T
        count = self.known @ to.known.T
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(count > 0, np.sqrt(np.maximum(total, 0.0) / count), np.inf)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What training inputs of one kind of row looked like."""

    features: tuple[str, ...]
    centre: Array  # (k,)
    scale: Array  # (k,)
    reach: Array  # (k,) largest distance from the centre in training, in units of scale
    sample: Array  # (m, k) scaled, NaN where unknown
    mean_distance: float
    threshold: float
    points: Points = field(init=False, repr=False, compare=False)  # the sample, ready to be measured from

    def __post_init__(self) -> None:
        """Prepare the sample once: every decision measures its distance from the same rows."""
        object.__setattr__(self, "points", Points.of(self.sample))

    def index(self, panel: Panel) -> Array:
        """Return the dissimilarity index (n,) of the rows of ``panel``."""
        return self._index(self._scaled(panel))

    def reasons(self, panel: Panel) -> list[str | None]:
        """Return per row why it is unlike anything in training, None where it is not."""
        z = self._scaled(panel)
        index = self._index(z)
        away = np.nan_to_num(np.abs(z)) / (BEYOND * np.maximum(self.reach, 1.0))
        out: list[str | None] = [None] * len(z)
        for n in np.flatnonzero((away > 1.0).any(axis=1) | ~(index <= self.threshold)):
            row, value = away[n], float(index[n])
            worst = int(np.argmax(row))
            if row[worst] > 1.0:
                out[n] = (
                    f"out of distribution: {self.features[worst]} is {row[worst] * BEYOND:.3g} times as far from usual "
                    f"as ever in training"
                )
            else:
                out[n] = f"out of distribution: dissimilarity {value:.2f}, trained up to {self.threshold:.2f}"
        return out

    def _index(self, z: Array) -> Array:
        return np.asarray(Points.of(z).distances(self.points).min(axis=1) / self.mean_distance, dtype=np.float64)

    def _scaled(self, panel: Panel) -> Array:
        x = values(panel, self.features)
        return np.clip((x - self.centre) / self.scale, -_LIMIT, _LIMIT)


def values(panel: Panel, features: tuple[str, ...]) -> Array:
    """Return the features (n, k), unknown as NaN; raises ModelError naming every missing column."""
    x = matrix(panel, features)
    return np.where(np.isfinite(x), x, np.nan)


def nearest(a: Array, b: Array) -> Array:
    """Return (n,) the distance of each row of ``a`` to the nearest of ``b``; inf where no feature is known in both."""
    return np.asarray(distances(a, b).min(axis=1), dtype=np.float64)


def distances(a: Array, b: Array) -> Array:
    """Return (n, m) root mean square differences over the features known in both rows."""
    return Points.of(a).distances(Points.of(b))


def learn(panel: pl.DataFrame, seed: int = 7) -> dict[str, Inputs]:
    """Return what the inputs of ``panel`` look like, for single keys and for pairs ("A|B") apart."""
    pair = panel["key"].str.contains("|", literal=True)
    found = {"single": _learn(panel.filter(~pair), seed), "pair": _learn(panel.filter(pair), seed)}
    return {kind: inputs for kind, inputs in found.items() if inputs is not None}


def _learn(panel: pl.DataFrame, seed: int) -> Inputs | None:
    if panel.height < _LEAST:
        return None
    panel = panel.sort("ts")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(panel.height, min(4 * SAMPLE, panel.height), replace=False))
    names = [c for c in feature_columns(panel) if panel.schema[c].is_numeric()]
    x = values(panel[chosen], tuple(names))
    known = np.isfinite(x).sum(axis=0) >= _LEAST // 2
    kept = np.flatnonzero(known)
    quartiles = np.nanquantile(x[:, kept], [0.25, 0.5, 0.75], axis=0)
    spread = np.nanstd(x[:, kept], axis=0)
    scale = np.where(quartiles[2] > quartiles[0], (quartiles[2] - quartiles[0]) / 1.349, spread)
    varied = scale > 0
    kept, centre, scale = kept[varied], quartiles[1][varied], scale[varied]
    if not len(kept):
        return None
    z = np.clip((x[:, kept] - centre) / scale, -_LIMIT, _LIMIT)
    full = panel.select(pl.col([names[k] for k in kept]).cast(pl.Float64))
    reach = np.array(
        [float(np.nanmax(np.abs((full[names[k]].fill_nan(None).drop_nulls().to_numpy() - c) / s), initial=0.0))
         for k, c, s in zip(kept, centre, scale, strict=True)]
    )  # fmt: skip
    cut = int(len(z) * _EARLIER)
    later, earlier = _some(z[cut:], rng), _some(z[:cut], rng)
    sample = _some(z, rng)
    between = distances(sample, sample)
    mean = float(np.mean(between[np.isfinite(between) & ~np.eye(len(sample), dtype=bool)]))
    threshold = MARGIN * float(nearest(later, earlier).max()) / mean
    return Inputs(tuple(names[k] for k in kept), centre, scale, reach, sample, mean, threshold)


def _some(rows: Array, rng: np.random.Generator) -> Array:
    return rows[np.sort(rng.choice(len(rows), min(SAMPLE, len(rows)), replace=False))]


def save(inputs: Mapping[str, Inputs], folder: Path) -> None:
    """Write ``inputs`` into ``folder`` as one numeric archive; no pickle."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for kind, one in inputs.items():
        arrays[f"{kind}.features"] = np.array(one.features)
        arrays[f"{kind}.units"] = np.stack([one.centre, one.scale, one.reach])
        arrays[f"{kind}.sample"] = one.sample.astype(np.float32)
        arrays[f"{kind}.levels"] = np.array([one.mean_distance, one.threshold])
    with (folder / FILE).open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def load(folder: Path) -> dict[str, Inputs]:
    """Read what ``save`` wrote; raises ModelError when it is missing or torn."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ModelError(f"{folder} holds no training inputs ({FILE}): {error}") from error
    found = {}
    for kind in sorted({name.split(".")[0] for name in arrays}):
        centre, scale, reach = arrays[f"{kind}.units"]
        mean, threshold = arrays[f"{kind}.levels"].tolist()
        features = tuple(str(f) for f in arrays[f"{kind}.features"])
        sample = arrays[f"{kind}.sample"].astype(np.float64)
        found[kind] = Inputs(features, centre, scale, reach, sample, mean, threshold)
    return found

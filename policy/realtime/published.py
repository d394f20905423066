"""Surfaces as files: published whole under a name that is their hash, and refused in words when they may not decide.

``tables/<deployment>-<hash>.npz`` holds the arrays, ``tables/<deployment>.json`` says which file is in force, when and
from what it was built, and the evidence that such surfaces have been cheaper than the rules that decide without one.
Both appear by rename, so that a reader sees the old one or the new one and nothing between.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lake.private import opener, private_folder
from policy.realtime.proof import Proof, proof_of
from policy.realtime.surface import GasStates, ReservationSurface

LIFE_S = 3 * 3_600  # of a published surface: one is built with every forecast, once an hour
KEPT = 3  # files of a deployment
_ARRAYS = ("reserve", "back", "value", "price", "move", "slow_edges", "fast_edges")


@dataclass(frozen=True, slots=True)
class Published:
    """A surface in force: ``digest`` names it in decisions, ``manifest`` says what it was built from."""

    surface: ReservationSurface
    digest: str
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NoSurface:
    """No surface may decide, for this ``reason``; the closed form of gas_band then does."""

    reason: str


def publish(folder: Path, name: str, surface: ReservationSurface, about: Mapping[str, Any], proof: Proof) -> Published:
    """Write ``surface`` of deployment ``name`` into ``folder``, in force where ``proof`` lets it decide.

    ``about`` joins the manifest.
    Raises OSError where the disk refuses; the one before is then still in force.
    """
    private_folder(folder)
    digest, states = surface.digest, surface.states
    file = f"{name}-{digest[:16]}.npz"
    arrays = {a: getattr(surface, a) if hasattr(surface, a) else getattr(states, a) for a in _ARRAYS}
    scalars = np.array([surface.node, states.level, states.step_s, states.built_s])
    with _replacing(folder / file) as path, open(path, "wb", opener=opener) as handle:
        np.savez_compressed(handle, scalars=scalars, **arrays)
    manifest = {
        **about, "file": file, "hash": digest, "built_s": states.built_s, "level_gwei": math.exp(states.level),
        "evidence": proof.json(),
    }  # fmt: skip
    with _replacing(folder / f"{name}.json") as path, open(path, "w", opener=opener) as handle:
        json.dump(manifest, handle, indent=1)
    _forget(folder, name, file)
    return Published(surface, digest, manifest)


def current_surface(folder: Path, name: str, now_s: float, level: float) -> Published | NoSurface:
    """Return the surface of ``name`` that decides at ``now_s`` (Unix) where gas is at log ``level``, or why none does.

    Refused is what ``built_surface`` refuses, and whatever its evidence does not let decide.
    """
    found = built_surface(folder, name, now_s, level)
    if isinstance(found, NoSurface):
        return found
    try:
        refused = proof_of(found.manifest.get("evidence")).refused(now_s)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        refused = f"the surface's evidence cannot be read ({error}); foredrift forecast builds it anew"
    return NoSurface(refused) if refused else found


def built_surface(folder: Path, name: str, now_s: float, level: float) -> Published | NoSurface:
    """Return the newest surface of ``name`` whatever its evidence, or why it is none to begin from.

    Refused are files that are damaged or not the manifest's, surfaces older than LIFE_S or dated after now, and those
    whose level of gas has moved MOVED times either way.
    """
    try:
        manifest = told_of(folder, name)
        found = _loaded(folder / str(manifest["file"]))
    except FileNotFoundError:
        return NoSurface("no surface has been built yet: foredrift forecast builds one")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        return NoSurface(f"the surface cannot be read ({type(error).__name__}: {str(error)[:80]})")
    if found.digest != manifest.get("hash"):
        return NoSurface("the surface's file is not the one its manifest names; foredrift forecast builds it anew")
    if not math.isfinite(level):
        return NoSurface("the level of gas is not known")
    refused = found.states.refused(now_s, level, LIFE_S)
    return NoSurface(refused) if refused else Published(found, found.digest, manifest)


def told_of(folder: Path, name: str) -> Mapping[str, Any]:
    """Return the newest manifest of ``name``; raises OSError or ValueError where there is none to read."""
    found: Mapping[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _loaded(path: Path) -> ReservationSurface:
    with np.load(path, allow_pickle=False) as file:
        a = {name: np.asarray(file[name], dtype=np.float64) for name in (*_ARRAYS, "scalars")}
    node, level, step_s, built_s = a["scalars"]
    states = GasStates(a["price"], a["move"], a["slow_edges"], a["fast_edges"], float(level), int(step_s), int(built_s))
    Q = a["price"].size
    shapes = a["reserve"].shape == a["back"].shape == a["value"].shape and a["reserve"].shape[1:] == (Q,)
    if not (shapes and a["move"].shape == (Q, Q) and all(np.isfinite(v).all() for v in a.values()) and node > 0.0):
        raise ValueError("arrays that fit no surface")
    return ReservationSurface(a["reserve"], a["back"], a["value"], float(node), states)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` that takes its name when nothing was raised, and goes otherwise."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield fresh
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _forget(folder: Path, name: str, newest: str) -> None:
    """Remove the deployment's older files but for the last KEPT; a reader of one that goes reads the manifest again."""
    mine = [p for p in folder.glob(f"{name}-*.npz") if len(p.stem) == len(name) + 17 and p.name != newest]
    for path in sorted(mine, key=lambda p: p.stat().st_mtime)[: max(len(mine) - KEPT + 1, 0)]:
        path.unlink(missing_ok=True)

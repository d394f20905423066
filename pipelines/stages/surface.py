"""Build a deployment's reservation-price surface from the last 30 days of gas, in force where evidence lets it be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from lake.errors import ForedriftError
from lake.store import Lake
from lake.units import HOUR_S
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.decider import case_at
from pipelines.vault_setup.surface_proof import proof_at
from pipelines.vault_setup.surfaces import level_of, log_gas, surface_folder
from policy.realtime.proof import Proof, proof_of
from policy.realtime.published import NoSurface, Published, built_surface, current_surface, publish, told_of
from policy.realtime.surface import LEAST_DAYS, learn, trailing_log
from policy.simulation.block_world import BLOCK_S
from policy.strategies.surfaces import surface_at


def publish_surface(deployment: VaultSettings, lake: Lake, at: datetime) -> dict[str, Any]:
    """Build and publish the surface as known at ``at``; return its manifest, or why there is none (``refused``).

    A surface of the hour before is where the iteration begins; its evidence stands until the next week is whole.
    Nothing here may keep a forecast from being issued.
    """
    try:
        log, notes = log_gas(lake, deployment.chain.history, at)
        per_hour = HOUR_S // BLOCK_S
        states = learn(log, trailing_log(log, per_hour), BLOCK_S, int(at.timestamp())) if log.size else None
        if states is None:
            hours = log.size // per_hour
            return {"refused": f"{hours} h of gas are known, a surface needs {LEAST_DAYS * 24}; foredrift ingest"}
        case = case_at(deployment, lake, at)
        folder = surface_folder(deployment)
        before = built_surface(folder, deployment.name, at.timestamp(), level_of(log))
        start = before.surface if isinstance(before, Published) else None
        surface = surface_at(case, len(case.history.ts) - 1, states, start)
        if not np.isfinite(surface.value).all():
            return {"refused": "the dynamic programme did not converge to numbers; gas_band's closed form decides"}
        about = {
            "deployment": deployment.name, "scenario": case.portfolio.scenario, "nav_usd": case.portfolio.nav_usd,
            "built_at": at.isoformat(), "notes": notes,
            "window": [(at - timedelta(seconds=BLOCK_S * log.size)).isoformat(), at.isoformat()],
        }  # fmt: skip
        proof = proof_at(deployment, lake, at, _said(folder, deployment.name))
        return dict(publish(folder, deployment.name, surface, about, proof).manifest)
    except (ForedriftError, OSError) as error:
        return {"refused": str(error)}


def _said(folder: Path, name: str) -> Proof | None:
    """Return the evidence of the manifest in force, None where it has none that can be read."""
    try:
        return proof_of(told_of(folder, name).get("evidence"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def surface_state(deployment: VaultSettings, lake: Lake, at: datetime) -> dict[str, Any]:
    """Return what is in force at ``at``: hash, built_at and level, or why none is (``refused``).

    With it ``evidence``, as the newest manifest has it: stakes, savings and weeks by rule, its hash; None without one.
    """
    hour, folder = at.replace(minute=0, second=0, microsecond=0), surface_folder(deployment)
    log, _ = log_gas(lake, deployment.chain.history, hour)
    found = current_surface(folder, deployment.name, at.timestamp(), level_of(log))
    proof = _said(folder, deployment.name)
    said = {"evidence": None if proof is None else proof.json()}
    if isinstance(found, NoSurface):
        return {"refused": found.reason, **said}
    built = datetime.fromtimestamp(int(found.manifest["built_s"]), UTC).isoformat()
    return {"hash": found.digest, "built_at": built, "level_gwei": found.manifest["level_gwei"], **said}

"""Where a deployment's surfaces lie, and the gas they are held against."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import numpy as np

from lake.private import STATE
from lake.store import Lake
from lake.units import DAY_S
from pipelines.vault_settings import VaultSettings
from policy.base import Vector
from policy.realtime.surface import trailing_log
from policy.simulation.block_world import BLOCK_S, recent_gas


def surface_folder(deployment: VaultSettings) -> Path:
    """Return the folder of the project's published surfaces."""
    return deployment.path(STATE) / "tables"


def log_gas(lake: Lake, chain_id: int, hour: datetime) -> tuple[Vector, list[str]]:
    """Return log gwei of the blocks of the 30 days before ``hour`` (a full one), empty without any; and their notes."""
    gas, notes = recent_gas(lake, chain_id, hour)
    return np.asarray(np.log(np.maximum(gas, 1e-9))), notes


def level_of(log: Vector) -> float:
    """Return the trailing level of log gas: its exponential mean over about a day; nan without any gas."""
    return float(trailing_log(log, DAY_S // BLOCK_S)[-1]) if log.size else math.nan

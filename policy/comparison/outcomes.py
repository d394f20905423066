"""What one portfolio did under one policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from policy.comparison import rebalancing_premium
from policy.simulation.simulator import Run


@dataclass(frozen=True, slots=True)
class PortfolioRun:
    """One portfolio under one policy, with its trades as columns and the seconds it took."""

    portfolio: int  # position in the panel
    policy: str
    run: Run
    trades: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]
    plan_s: float
    simulate_s: float
    premium: rebalancing_premium.Premium  # what rebalancing did to wealth; beside the ledger, never in it
    past: float | None = None  # cost on mirrored pasts before the comparison, in the same unit for all policies

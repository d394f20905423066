"""Policies by name, and the settings of a comparison.

A policy outside this file is named by a row: module and factory ``(history, lake, config) -> Planner``, imported when
asked for, so that a reactive comparison needs no forecasts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module

from lake.errors import ConfigError
from lake.store import Lake
from policy.history import History
from policy.names import installed
from policy.panel import DEFAULT_CELLS, LARGEST, Cell
from policy.reactive import REACTIVE
from policy.schedule import Planner

LATE: Mapping[str, tuple[str, str]] = {
    "predictive": ("policy.predictive", "make"),
    "foresight_gas": ("policy.oracle", "make_foresight_gas"),
    "clairvoyant": ("policy.oracle", "make_clairvoyant"),
}
NAMES: tuple[str, ...] = (*(p.name for p in REACTIVE), *LATE)


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """Settings of one comparison.

    ``portfolios`` counts baskets; each appears in every cell. ``draws`` bootstrap samples: 2,000 give an interval's
    ends to about 5 % of its width. ``skill`` None uses the recorded forecasts, 0..1 the skill dial (see policy.skill).
    """

    start: datetime
    end: datetime
    portfolios: int = 32
    policies: tuple[str, ...] = NAMES
    seed: int = 7
    cells: tuple[Cell, ...] = DEFAULT_CELLS
    assets: tuple[str, ...] | None = None
    native: str = "ETH"
    chain_id: int = 1
    source: str | None = None
    pools: Mapping[str, str] | None = None
    starts: int = 4
    largest: int = LARGEST
    draws: int = 2_000
    threads: int = os.cpu_count() or 1
    skill: float | None = None


def planners(history: History, lake: Lake, config: CompareConfig, own: Sequence[Planner] = ()) -> tuple[Planner, ...]:
    """Return the planners named in ``config.policies``, in that order, and then the caller's ``own``.

    A name is one of NAMES or of an installed package (entry point group ``foredrift.policies``). Raises ConfigError for
    unknown or repeated names.
    """
    names = (*config.policies, *(p.name for p in own))
    unknown = [n for n in config.policies if n not in NAMES and n not in installed()]
    if unknown or not names or len(set(names)) < len(names):
        known_names = ", ".join((*NAMES, *installed()))
        raise ConfigError(f"policies must be different names of {known_names}; got {list(names)}")
    known: dict[str, Planner] = {p.name: p for p in REACTIVE}
    made: list[Planner] = []
    for name in config.policies:
        if name in known:
            made.append(known[name])
        elif name in LATE:
            module, factory = LATE[name]
            made.append(getattr(import_module(module), factory)(history, lake, config))
        else:
            made.append(installed()[name].load()(history, lake, config))
    return (*made, *own)

"""Policies by name, and the settings of a comparison.

A policy is a row of ``policy.names`` with its factory ``(workshop) -> BandRule``, imported when asked for, so
that a reactive comparison needs no forecasts. A policy at one moment is its memory: ``recall`` gives it back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING

from lake.errors import ConfigError
from lake.store import Lake
from policy.memory import PolicyMemory
from policy.names import CLAIMANT, TRAITS, installed
from policy.realtime.looks import Resolution
from policy.simulation.history import History
from policy.simulation.panel import DEFAULT_CELLS, LARGEST, Cell
from policy.simulation.planner import BandRule, LevelRule, Portfolio, prepare
from policy.strategies.reactive import REACTIVE, memory_of, recalled

if TYPE_CHECKING:
    from policy.strategies.predictive import Predictive

NAMES: tuple[str, ...] = tuple(TRAITS)


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """Settings of one comparison.

    ``portfolios`` counts baskets; each appears in every cell. ``draws`` bootstrap samples: 2,000 give an interval's
    ends to about 5 % of its width. ``skill`` None uses the recorded forecasts, 0..1 the skill dial (``gas_outlook``).
    Finer than the hour, hourly rules act at ``minute`` of it; ``flat_gas`` holds gas at each hour's mean.
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
    resolution: Resolution = "hour"
    minute: int = 6
    flat_gas: bool = False


SURFACE = "surface"
"""The rule of a published surface, which decides block by block and is no planner of a comparison."""


@dataclass(slots=True)
class Workshop:
    """What policies are made from; those made in one workshop share the predictive policy that the bounds look at."""

    history: History
    lake: Lake
    config: CompareConfig
    _predictive: Predictive | None = None

    @property
    def predictive(self) -> Predictive:
        """The policy on the forecasts recorded in the lake, or on dialled ones when ``config.skill`` is set."""
        if self._predictive is None:
            from policy.strategies.gas_outlook import outlook_of
            from policy.strategies.gas_process import windows
            from policy.strategies.predictive import Predictive

            c = self.config
            found = outlook_of(self.history, self.lake, c.chain_id, c.skill, c.seed, windows(self.history))
            self._predictive = Predictive(self.history, found)
        return self._predictive


def make_predictive(workshop: Workshop) -> Predictive:
    """Return the predictive policy of ``workshop``."""
    return workshop.predictive


def memory_at(planner: BandRule, portfolio: Portfolio, history: History, step: int) -> PolicyMemory:
    """Return what ``planner`` knows at ``step`` about ``portfolio``, frozen."""
    if hasattr(planner, "memory"):
        found: PolicyMemory = planner.memory(portfolio, step)
        return found
    return memory_of(planner, prepare(history, portfolio), step)


def recall(memory: PolicyMemory) -> LevelRule:
    """Return the policy that ``memory`` is of; raises ConfigError for a policy that is not installed."""
    if memory.policy == CLAIMANT:
        from policy.strategies.remembered import Remembered

        return Remembered(memory)
    if memory.policy in {p.name for p in REACTIVE}:
        return recalled(memory)
    if memory.policy == SURFACE:
        from policy.strategies import surface_rule

        return surface_rule.recalled(memory)
    if memory.policy in TRAITS:
        own = getattr(import_module(TRAITS[memory.policy].factory.partition(":")[0]), "recall", None)
        if own is not None:
            made: LevelRule = own(memory)
            return made
    if memory.policy in installed():
        given = installed()[memory.policy].load()
        if hasattr(given, "recall"):
            rule: LevelRule = given.recall(memory)
            return rule
    raise ConfigError(f"no policy {memory.policy!r} that decides from a memory is installed")


def planners(history: History, lake: Lake, config: CompareConfig, own: Sequence[BandRule] = ()) -> tuple[BandRule, ...]:
    """Return the planners named in ``config.policies``, in that order, and then the caller's ``own``.

    A name is one of NAMES or of an installed package (entry point group ``foredrift.policies``). Raises ConfigError for
    unknown or repeated names.
    """
    names = (*config.policies, *(p.name for p in own))
    unknown = [n for n in config.policies if n not in NAMES and n not in installed()]
    if unknown or not names or len(set(names)) < len(names):
        known_names = ", ".join((*NAMES, *installed()))
        raise ConfigError(f"policies must be different names of {known_names}; got {list(names)}")
    known: dict[str, BandRule] = {p.name: p for p in REACTIVE}
    made: list[BandRule] = []
    workshop = Workshop(history, lake, config)
    for name in config.policies:
        if name in known:
            made.append(known[name])
        elif name in TRAITS:
            module, _, factory = TRAITS[name].factory.partition(":")
            made.append(getattr(import_module(module), factory)(workshop))
        else:
            made.append(installed()[name].load()(history, lake, config))
    return (*made, *own)

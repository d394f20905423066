"""The surface that a kept vault is looked up in: read where it is published, swapped between two blocks, or refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from lake.errors import ForedriftError
from lake.store import Lake
from lake.units import DAY_S, HOUR_S, WEI_PER_GWEI
from pipelines.monitor.logs import log
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.surfaces import level_of, log_gas, surface_folder
from policy.keeping.desk import SeenBlock
from policy.keeping.sights import Reserves
from policy.memory import PolicyMemory
from policy.realtime.published import LIFE_S, NoSurface, Published, current_surface
from policy.realtime.surface import trailing_log
from policy.simulation.block_world import BLOCK_S
from policy.strategies.surface_rule import memory_of, usual_legs

HOUR, DAY = HOUR_S // BLOCK_S, DAY_S // BLOCK_S  # blocks


@dataclass(slots=True)
class GasWatch:
    """The trailing means of log gas over an hour (``slow``) and a day (``level``), begun from the lake's record."""

    slow: float = math.nan
    level: float = math.nan
    seen_s: int = 0

    @classmethod
    def of(cls, lake: Lake, chain_id: int, time_s: int) -> GasWatch:
        """Return the means as recorded up to the hour of ``time_s`` (Unix); nan without a record."""
        hour = datetime.fromtimestamp(time_s - time_s % HOUR_S, UTC)
        try:
            past, _ = log_gas(lake, chain_id, hour)
        except (ForedriftError, OSError) as error:  # the level is then learnt from the blocks that come
            log("surface", no_record=str(error))
            return cls()
        if not past.size:
            return cls()
        return cls(float(trailing_log(past, HOUR)[-1]), level_of(past), time_s)

    def take(self, price: float, time_s: int) -> float:
        """Return the hour's mean before log ``price`` of the block at ``time_s``, then let it count."""
        before = price if math.isnan(self.slow) else self.slow
        blocks = max(1, round((time_s - self.seen_s) / BLOCK_S)) if self.seen_s else 1
        level = price if math.isnan(self.level) else self.level
        self.slow = before + (1.0 - (1.0 - 1.0 / HOUR) ** blocks) * (price - before)
        self.level = level + (1.0 - (1.0 - 1.0 / DAY) ** blocks) * (price - level)
        self.seen_s = time_s
        return before


@dataclass(slots=True)
class KeptSurface:
    """One deployment's surface: looked for at each block, in force until its file changes or it is refused."""

    deployment: VaultSettings
    lake: Lake
    watch: GasWatch | None = None
    found: Published | NoSurface = field(default_factory=lambda: NoSurface("not looked for yet"))
    state: int = -1
    _stamp: float = -1.0
    _told: str = ""

    def look(self, head: SeenBlock) -> tuple[Reserves, str] | None:
        """Return the column in force for the block after ``head`` with the surface's hash; None: the closed form."""
        watch = self.watch = self.watch or GasWatch.of(self.lake, self.deployment.chain.history, head.timestamp_s)
        price = math.log(max(head.next_base_fee_wei / WEI_PER_GWEI, 1e-9))
        slow = watch.take(price, head.timestamp_s)
        self._reload(head.timestamp_s, watch.level)
        if isinstance(self.found, NoSurface):
            self._none(self.found.reason)
            return None
        states = self.found.surface.states
        refused = states.refused(head.timestamp_s, watch.level, LIFE_S)
        if refused:
            self._none(refused)
            return None
        self._told = ""
        self.state = int(states.of(np.array([price]), np.array([slow]))[0])
        legs = usual_legs(len(self.deployment.portfolio.assets))
        column = self.found.surface.reserve[:, self.state]
        return Reserves(column, self.found.surface.node, legs), self.found.digest

    def memory(self, at: datetime) -> PolicyMemory | None:
        """Return what the rule of the last look knows, None where the closed form decides."""
        if self.state < 0 or isinstance(self.found, NoSurface):
            return None
        return memory_of(self.found.surface, self.state, at)

    def _none(self, reason: str) -> None:
        self.state = -1
        if reason.split(":", maxsplit=1)[0] != self._told:
            self._told = reason.split(":", maxsplit=1)[0]
            log("surface", vault=self.deployment.name, refused=reason)

    def _reload(self, time_s: int, level: float) -> None:
        folder, name = surface_folder(self.deployment), self.deployment.name
        try:
            stamp = (folder / f"{name}.json").stat().st_mtime
        except OSError:
            stamp = 0.0
        if stamp != self._stamp:
            self._stamp, self.found = stamp, current_surface(folder, name, time_s, level)

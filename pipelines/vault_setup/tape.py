"""What a paper vault sees block by block: the lake's prices as they became known, and heads live or replayed.

A price is the close of the last bar that had ended; nothing is drawn between bars. Gas is that of the heads: a live
chain's, or of a replay, whose blocks are as recorded where the lake has them and else a seeded world (see
``policy.simulation.block_world``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import polars as pl

from lake.errors import NotEnoughData
from lake.store import Lake
from lake.units import HOUR_S, WEI_PER_GWEI
from lake.universe import STABLE
from pipelines.vault_settings import VaultSettings
from policy.base import Vector
from policy.simulation.block_world import BLOCK_S, build
from policy.simulation.history import load

RELOAD_S = 60  # a live tape looks into the lake again this often
BACK = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class ReplayedBlock:
    """A block of a replay; ``next_base_fee_wei`` is the base fee of the replay's next one."""

    number: int
    hash: str
    parent: str
    timestamp_s: int
    base_fee_wei: int
    next_base_fee_wei: int


@dataclass(slots=True)
class Tape:
    """Closes of ``assets`` by the time they were known; ``until``: nothing later is read, None for a live tape."""

    lake: Lake
    assets: tuple[str, ...]
    until: datetime | None = None
    _known: Mapping[str, tuple[npt.NDArray[np.int64], Vector]] | None = None
    _read_s: int = -RELOAD_S

    def at(self, time_s: int) -> dict[str, tuple[float, int]]:
        """Return by asset the newest close known at ``time_s`` (Unix) and when it was made; a dollar coin is at 1."""
        if self._known is None or (self.until is None and time_s - self._read_s >= RELOAD_S):
            self._known, self._read_s = self._load(time_s), time_s
        found = {}
        for asset in self.assets:
            times, closes = self._known.get(asset, (np.zeros(0, dtype=np.int64), np.zeros(0)))
            place = int(np.searchsorted(times, time_s, side="right")) - 1
            if place >= 0:
                found[asset] = float(closes[place]), int(times[place])
            elif asset in STABLE:
                found[asset] = 1.0, time_s
            else:
                at = datetime.fromtimestamp(time_s, UTC)
                raise NotEnoughData(f"no price of {asset} is known at {at:%Y-%m-%d %H:%M} UTC; foredrift ingest")
        return found

    def _load(self, time_s: int) -> dict[str, tuple[npt.NDArray[np.int64], Vector]]:
        begin = datetime.fromtimestamp(time_s, UTC) - BACK
        rows = self.lake.scan("prices", as_of=self.until).filter(
            pl.col("asset").is_in(self.assets) & (pl.col("step") <= HOUR_S) & (pl.col("available_at") > begin)
        )
        known = rows.sort("available_at", "step").select("asset", "available_at", "close").collect()
        out = {}
        for (asset,), own in known.group_by("asset"):
            times = own["available_at"].dt.epoch("s").to_numpy().astype(np.int64)
            out[str(asset)] = times, own["close"].to_numpy().astype(np.float64)
        return out


def replayed(deployment: VaultSettings, lake: Lake, start: datetime, blocks: int) -> tuple[list[ReplayedBlock], str]:
    """Return ``blocks`` blocks from ``start`` on the deployment's recorded gas, and what they are made of."""
    end = start + timedelta(hours=max(2, -(-(blocks + 1) * BLOCK_S // HOUR_S) + 1))
    assets = deployment.portfolio.assets
    history = load(lake, start, end, assets, deployment.chain.native, chain_id=deployment.chain.history)
    world = build(lake, history, deployment.chain.history)
    gas = np.maximum(np.round(world.gas_gwei * WEI_PER_GWEI), 1.0).astype(np.int64).tolist()
    made, before = [], _hash("replay", world.start_s)
    for b in range(min(blocks, len(gas) - 1)):
        name = _hash(before, gas[b])
        made.append(ReplayedBlock(b + 1, name, before, world.start_s + b * BLOCK_S, gas[b], gas[b + 1]))
        before = name
    return made, "; ".join(world.notes)


def _hash(*parts: object) -> str:
    return "0x" + sha256("|".join(str(p) for p in parts).encode()).hexdigest()

"""A keeper's blocks as a picture: weights and distance against the band, gas against the reservation price, trades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class BlockRow:
    """One look: price of the next block and reservation price (gwei), distance and the trigger at that price.

    ``off``: each weight less its target, fractions; ``traded``: whether the block led to a trade.
    """

    block: int
    price_gwei: float
    reserve_gwei: float
    distance: float
    trigger: float
    off: tuple[float, ...]
    traded: bool


def block_chart(assets: Sequence[str], rows: Sequence[BlockRow]) -> Figure:
    """Return three panels over the blocks of ``rows``: weights off target, distance and trigger, gas and reserve."""
    block = [r.block for r in rows]
    traded = [r for r in rows if r.traded]
    figure, (top, middle, low) = plt.subplots(3, 1, figsize=(9.0, 8.0), sharex=True)
    for i, asset in enumerate(assets):
        top.plot(block, [100 * r.off[i] for r in rows], label=asset, lw=1.2)
    top.axhline(0.0, color="0.6", lw=0.8)
    top.set_ylabel("weight less target, %")
    top.legend(loc="upper left", fontsize=8, ncols=len(assets))
    middle.plot(block, [r.distance for r in rows], color="#4c78a8", label="distance")
    middle.plot(block, [r.trigger for r in rows], color="#e45756", lw=1.0, label="band at the present gas")
    middle.set_ylabel("distance from target")
    middle.legend(loc="upper left", fontsize=8)
    reserve = np.array([r.reserve_gwei for r in rows])
    low.plot(block, [r.price_gwei for r in rows], color="0.4", lw=1.0, label="gas of the next block")
    low.plot(block, np.where(np.isfinite(reserve), reserve, np.nan), color="#54a24b", label="reservation price")
    low.plot([r.block for r in traded], [r.price_gwei for r in traded], "o", color="#e45756", ms=6, label="traded")
    low.set_ylabel("gwei")
    low.set_xlabel("block")
    low.legend(loc="upper left", fontsize=8)
    for axis in (top, middle, low):
        axis.grid(alpha=0.25)
    figure.align_ylabels()
    return figure

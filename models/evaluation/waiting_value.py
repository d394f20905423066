"""What waiting for the predicted cheapest hour saves, as a share of what perfect foresight would save."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.float64]

WINDOW_H = 24


def waiting_value(paths: pl.DataFrame, panel: pl.DataFrame, window_h: int = WINDOW_H) -> dict[str, float | int]:
    """Return how much a trader who may wait up to ``window_h`` hours saves by the predicted best hour.

    At every issue time of ``paths`` (one key) the hour with the lowest mean over the paths is chosen once, "now"
    included, and the price then paid is compared with the present one. ``panel`` has (ts, b|now_gwei). Figures:
    ``share`` saved gwei over those of perfect foresight, ``relative_share`` the same with each saving as a fraction
    of the present price, ``saving`` and ``foresight`` the mean fractions saved, ``n`` issue times with a whole
    window of prices. Without any, ``n`` is 0 and nothing else is given.
    """
    wide = paths.sort("issued_at", "path").group_by("issued_at", maintain_order=True).agg(pl.col("values"))
    hours = panel.select("ts", pl.col("b|now_gwei").alias("x")).sort("ts").upsample("ts", every="1h")
    price = hours["x"].fill_null(float("nan")).to_numpy()
    at = ((wide["issued_at"] - hours["ts"][0]).dt.total_seconds() // 3600).to_numpy()
    whole = np.flatnonzero(at + window_h < len(price))
    actual = price[at[whole, None] + np.arange(window_h + 1)]
    known = np.isfinite(actual).all(axis=1)
    if not known.any():
        return {"n": 0}
    expected = [np.asarray(wide["values"][int(i)].to_list())[:, :window_h].mean(axis=0) for i in whole[known]]
    return _shares(actual[known], np.asarray(expected))


def _shares(actual: Array, expected: Array) -> dict[str, float | int]:
    now = actual[:, 0]
    choice = np.column_stack([now, expected]).argmin(axis=1)
    paid, best = actual[np.arange(len(now)), choice], actual.min(axis=1)
    saving, foresight = 1.0 - paid / now, 1.0 - best / now
    possible, relative = float((now - best).sum()), float(foresight.sum())
    return {
        "n": len(now),
        "share": float((now - paid).sum()) / possible if possible > 0 else 0.0,
        "relative_share": float(saving.sum()) / relative if relative > 0 else 0.0,
        "saving": float(saving.mean()),
        "foresight": float(foresight.mean()),
    }

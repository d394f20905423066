"""The last figures of a long run, in memory that is taken once: a keeper lives for months and must not grow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LAST = 20_000


class LastFigures:
    """The last ``size`` figures that were appended."""

    def __init__(self, size: int = LAST) -> None:
        self._figures = np.zeros(size)
        self._count = 0

    def append(self, figure: float) -> None:
        """Keep ``figure``, in the place of the oldest."""
        self._figures[self._count % self._figures.size] = figure
        self._count += 1

    def values(self) -> npt.NDArray[np.float64]:
        """Return the figures, oldest first."""
        size = self._figures.size
        return self._figures[np.arange(max(self._count - size, 0), self._count) % size]

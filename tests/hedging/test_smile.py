"""The smile: through its quotes, never beyond them between two, and close to strikes it was not shown."""

from __future__ import annotations

import numpy as np
import pytest

from lake.errors import DataError
from policy.hedging.smile import smile

STRIKES = np.array([70.0, 80, 90, 100, 110, 120, 140])
VOLS = np.array([0.82, 0.74, 0.69, 0.66, 0.66, 0.68, 0.75])


def test_through_the_quotes_and_flat_outside():
    s = smile(100.0, 0.1, STRIKES, VOLS)
    assert np.allclose(s.vol(np.log(STRIKES / 100)), VOLS, rtol=1e-12)
    assert s.vol(np.array([-2.0, 2.0])) == pytest.approx([0.82, 0.75])


def test_no_overshoot_between_quotes():
    s = smile(100.0, 0.1, STRIKES, VOLS)
    k = np.log(STRIKES / 100)
    for i in range(6):
        between = s.vol(np.linspace(k[i], k[i + 1], 50))
        assert between.min() >= min(VOLS[i : i + 2]) - 1e-12
        assert between.max() <= max(VOLS[i : i + 2]) + 1e-12


@pytest.mark.parametrize(
    ("tau", "strikes", "vols"),
    [
        (0.1, [], []),
        (0.0, [100.0], [0.5]),
        (0.1, [100.0], [0.0]),
        (0.1, [100.0, -5.0], [0.5, 0.5]),
        (0.1, [90.0], [float("nan")]),
    ],
)
def test_bad_quotes_are_refused(tau, strikes, vols):
    with np.errstate(invalid="ignore"), pytest.raises(DataError, match="a smile needs"):
        smile(100.0, tau, np.array(strikes), np.array(vols))

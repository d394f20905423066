"""Black-Scholes as another protocol has it on chain, where its package was fetched (``make lyra``)."""

from __future__ import annotations

import pytest

from tests.hedging.lyra import CLOSE, FIXED_CLOSE, PACKAGE, differences, fetched


@pytest.mark.chain
def test_another_protocols_black_scholes_agrees():
    package = fetched(download=False)
    if package is None:
        pytest.skip(f"{PACKAGE} is not in the cache: make lyra fetches it")
    found = differences(package)
    assert max(found.lyra.values()) <= CLOSE
    assert max(found.fixed.values()) <= FIXED_CLOSE

"""Fixtures the benchmarks share with the tests, and whether times count in this run."""

from __future__ import annotations

import pytest

from tests.bench.pace import Pace
from tests.execution.conftest import vaultnet, vaultnet_session

__all__ = ["pace", "vaultnet", "vaultnet_session"]


@pytest.fixture(scope="session")
def pace(request: pytest.FixtureRequest) -> Pace:
    """Times count with ``--benchmark-enable`` alone (`make bench`)."""
    return Pace(timed=bool(request.config.getoption("benchmark_enable")))

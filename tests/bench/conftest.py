"""Fixtures the benchmarks share with the tests."""

from tests.execution.conftest import vaultnet, vaultnet_session

__all__ = ["vaultnet", "vaultnet_session"]

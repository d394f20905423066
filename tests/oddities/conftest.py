"""Fixtures of the odd tokens, pools, feeds and nodes: the vault's market, as the execution tests have it."""

from tests.execution.conftest import vaultnet, vaultnet_session

__all__ = ["vaultnet", "vaultnet_session"]

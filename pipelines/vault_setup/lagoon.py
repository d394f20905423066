"""The configured Lagoon vault: its Safe traded by role, and the ERC-7540 contract its holders deal with."""

from __future__ import annotations

from eth_utils.address import is_address, to_checksum_address

from lake.errors import ConfigError
from lake.rpc import Rpc
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.safe import roles_safe_of
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.lagoon.nav import NavLimits


def lagoon_of(deployment: VaultSettings, rpc: Rpc, keeper: str) -> LagoonVault:
    """Return the adapter of the configured Lagoon vault; ConfigError naming what is missing or does not fit."""
    investors = deployment.vault.investors
    if investors is None or not is_address(investors):
        raise ConfigError(
            "set [vault] investors to the Lagoon vault's address (ERC-7540), and address to the Safe it pays into"
        )
    safe = roles_safe_of(deployment, rpc, keeper)
    made = LagoonVault(rpc, safe.spec, safe.modifier, safe.scope, to_checksum_address(investors))
    made.requests()  # another Safe's vault, or none of Lagoon, is said here
    return made


def nav_limits(deployment: VaultSettings) -> NavLimits:
    """Return how far a valuation may go, as configured."""
    return NavLimits(deployment.vault.nav_change_bps, deployment.vault.nav_pushed_bps)

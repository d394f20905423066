"""A Lagoon v0.5 vault on the local chain, from published bytecode: its Safe with the keeper's role, and a holder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from eth_abi.abi import encode

from lake.evm import calldata
from lake.rpc import Rpc
from policy.execution.base import Token
from policy.execution.checks.rules import Mandate
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.safe.adapter import EXEC, ZERO
from policy.localnet.accounts import dev_accounts
from policy.localnet.deploy import Deployer
from policy.localnet.portfolio import roles_safe, roles_vault, vouched
from policy.localnet.wheels import LAGOON, wheel_artefact
from policy.localnet.world import NUMERAIRE, Extra, World

FOLDER = "eth_defi/abi/lagoon"
NAMES = {
    "lagoon_safe": "roles_safe", "lagoon_multisend": "roles_multisend", "lagoon_roles": "roles",
    "lagoon_unwrapper": "unwrapper",
}  # fmt: skip
"""Extras of the world, with what the Safe traded by role calls them."""
VALUER = "guardian"
"""Development account that pushes the vault's valuation."""
UINT256 = 2**256 - 1
INIT = "(address,string,string,address,address,address,address,address,uint16,uint16,bool,uint256)"
DAY_S = 86_400


def lagoon_vault(
    targets_bps: Mapping[str, int] | None = None, *, deposit_usd: int = 1_000_000, allowance_usd: int = 1_000_000
) -> Extra:
    """Return the extra that deploys a Lagoon vault over a Safe of ``owner`` whose keeper has a role, and funds it.

    The investor requests a deposit, the valuation manager values it at nothing before, the Safe settles, the investor
    claims. Adds ``lagoon`` and the names of NAMES to the world's extras; see :func:`lagoon_adapter`.
    """
    safe = roles_safe(targets_bps, deposit_usd=0, allowance_usd=allowance_usd)

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        made = safe.deploy(on, world)
        found = {name: made[of] for name, of in NAMES.items()}
        cash = world.token(NUMERAIRE)
        vault = new_vault(on, world, cash, found["lagoon_safe"])
        paid_in(on, vault, cash, found["lagoon_safe"], deposit_usd * 10**cash.decimals)
        return {"lagoon": vault, **found}

    shape = (LAGOON, safe.digest, Path(__file__).read_bytes(), deposit_usd)
    return Extra("lagoon_vault", hashlib.sha256(repr(shape).encode()).hexdigest(), build)


def new_vault(on: Deployer, world: World, cash: Token, safe: str, valuer: str = VALUER) -> str:
    """Deploy a vault over ``safe`` counted in ``cash``; ``valuer``: whose account pushes valuations. Return it."""
    who = {r: a.address for r, a in dev_accounts().items()}
    registry = on.deploy(wheel_artefact(LAGOON, f"{FOLDER}/FeeRegistry.json", on.cache), ["bool"], [False])
    on.call("deployer", registry, "initialize(address,address)", who["deployer"], who["deployer"])
    vault = on.deploy(wheel_artefact(LAGOON, f"{FOLDER}/v0.5.0/Vault.json", on.cache), ["bool"], [False])
    roles = (safe, who["owner"], who[valuer], who["owner"], who["owner"])
    shape = (cash.address, "Local vault", "LOCAL", *roles, 0, 0, False, DAY_S)
    init = encode([INIT], [shape])
    on.call("deployer", vault, "initialize(bytes,address,address)", init, registry, world.contracts["weth"])
    return vault


def paid_in(on: Deployer, vault: str, cash: Token, safe: str, amount: int, valuer: str = VALUER) -> None:
    """Let the investor request a deposit; value the vault at nothing, settle by the Safe, and claim the shares."""
    investor = dev_accounts()["investor"].address
    on.call("investor", cash.address, "approve(address,uint256)", vault, UINT256)
    on.call("investor", vault, "requestDeposit(uint256,address,address)", amount, investor, investor)
    on.call(valuer, vault, "updateNewTotalAssets(uint256)", 0)
    by_safe(on, safe, vault, "settleDeposit(uint256)", 0)
    on.call("investor", vault, "deposit(uint256,address)", amount, investor)


def by_safe(on: Deployer, safe: str, to: str, signature: str, *args: object) -> None:
    """Let the Safe make one call, sent by its owner."""
    data = calldata(signature, *args)
    on.call("owner", safe, EXEC, to, 0, data, 0, 0, 0, 0, ZERO, ZERO, vouched("owner"))


def lagoon_adapter(
    rpc: Rpc,
    world: World,
    targets_bps: Mapping[str, int] | None = None,
    *,
    mandate: Mandate | None = None,
    allowance_usd: int = 1_000_000,
) -> LagoonVault:
    """Return the adapter of the world's Lagoon vault, its keeper scoped to all pools among its tokens."""
    extras = {**world.extras, **{of: world.extras[name] for name, of in NAMES.items()}}
    safe = roles_vault(rpc, replace(world, extras=extras), targets_bps, mandate=mandate, allowance_usd=allowance_usd)
    return LagoonVault(rpc, safe.spec, safe.modifier, safe.scope, world.extras["lagoon"])

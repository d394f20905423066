"""A reference vault of any portfolio on the local market, holding any weights at first: what a rehearsal rebalances."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from lake.units import BPS
from lake.venues import PAIR_CALLS, TICKS_CALLS
from policy.execution.base import Token
from policy.execution.checks.rules import Mandate
from policy.execution.contracts.compile import source_digest
from policy.execution.vaults.reference.deployment import VaultSetup, deploy
from policy.localnet.accounts import dev_accounts
from policy.localnet.deploy import Deployer
from policy.localnet.portfolio import DELAY_S, source_on
from policy.localnet.world import FEED_DECIMALS, Extra, World

CONTRACTS = ("foredrift_vault", "foredrift_investors", "foredrift_auctions", "foredrift_oracle", "mock_feed")


def own_vault(
    targets_bps: Mapping[str, int], start_bps: Mapping[str, int], *, nav_usd: float, mandate: Mandate,
    holders: bool = False,
) -> Extra:  # fmt: skip
    """Return the extra that deploys a vault of ``targets_bps`` (the first asset is the accounting one), funded.

    It begins with ``nav_usd`` in the weights ``start_bps``: the investor deposits the first asset's part, or a ten
    thousandth, and gives the vault the rest. ``holders``: the investor alone is on its list. Adds ``vault`` and the
    second feeds to the world's extras, as ``portfolio.reference_vault`` does.
    """
    targets, first = dict(targets_bps), next(iter(targets_bps))

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        seconds, usd = {}, {}
        for asset in targets:
            ((_, answer),) = [on.view(str(world.token(asset).feed), "latestRoundData()", "uint80,int256")]
            usd[asset] = Fraction(int(str(answer)), 10**FEED_DECIMALS)
            seconds[asset] = on.vyper("mock_feed", ["uint8", "string", "int256"],
                                      [FEED_DECIMALS, f"{asset} second", answer])  # fmt: skip
        sources = [source_on(world, asset, share, seconds[asset]) for asset, share in targets.items()]
        who = {role: account.address for role, account in dev_accounts().items()}
        calls = [(world.contracts["v3_router"], c) for c in TICKS_CALLS]
        calls += [(world.contracts["v2_router"], c) for c in PAIR_CALLS]
        named = [(p.address, p.venue, p.router) for p in world.pools.values() if {p.asset, p.quote} <= {*targets}]
        setup = VaultSetup(sources, who["owner"], who["keeper"], who["guardian"], calls, mandate, delay_s=DELAY_S,
                           pools=named)  # fmt: skip
        setup = replace(setup, holders=(who["investor"],)) if holders else setup
        vault = deploy(on.rpc, setup, who["deployer"])
        for asset in sorted(targets, key=lambda a: a != first):
            part = Fraction(max(start_bps.get(asset, 0), int(asset == first)), BPS) * Fraction(nav_usd)
            _give(on, world.token(asset), int(part / usd[asset] * 10 ** world.token(asset).decimals), vault,
                  deposit=asset == first)  # fmt: skip
        return {"vault": vault, **{f"second_feed:{a}": f for a, f in seconds.items()}}

    shape = ([source_digest(c) for c in CONTRACTS], targets, dict(start_bps), nav_usd, mandate, holders)
    return Extra("own_vault", hashlib.sha256(repr(shape).encode()).hexdigest(), build)


def _give(on: Deployer, token: Token, amount: int, vault: str, *, deposit: bool) -> None:
    """Let the investor deposit ``amount``, or send it to the vault."""
    if not amount:
        return
    if not deposit:
        on.call("investor", token.address, "transfer(address,uint256)", vault, amount)
        return
    on.call("investor", token.address, "approve(address,uint256)", vault, amount)
    on.call("investor", vault, "deposit(uint256,address)", amount, dev_accounts()["investor"].address)

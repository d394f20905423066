"""Portfolios for the local market: the reference vault and a Safe, as extras of its world."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from eth_account import Account
from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from lake.venues import PAIR_CALLS, TICKS_CALLS
from policy.execution.auctions.orders import ARM, VenueKind, Venues
from policy.execution.base import Token
from policy.execution.checks.oracle_rules import ALONE, PriceSource
from policy.execution.checks.rules import Mandate
from policy.execution.contracts.compile import source_digest
from policy.execution.routing.pool_reader import describe_pools
from policy.execution.routing.yields import DEPOSIT, REDEEM, VENUE, describe
from policy.execution.vaults.reference.deployment import (
    SECOND_FEED,
    TokenSource,
    VaultSetup,
    deploy,
)
from policy.execution.vaults.safe import scoping
from policy.execution.vaults.safe.adapter import EXEC, ZERO, SafeSpec, SignTyped
from policy.execution.vaults.safe.install import missing_calls
from policy.execution.vaults.safe.proposal import ProposedSafe
from policy.execution.vaults.safe.roles import RolesSafe
from policy.localnet.accounts import dev_accounts
from policy.localnet.auction_venues import BIDDERS, deploy_venues
from policy.localnet.deploy import Deployer
from policy.localnet.packages import lock_digest
from policy.localnet.world import FEED_DECIMALS, NUMERAIRE, SHARE, Extra, World
from policy.localnet.zodiac import roles_modifier, singleton_factory, unwrapper

HEARTBEAT_S = 90_000  # replayed history posts at least daily
DEVIATION_BPS = 100
DELAY_S = 3_600
YIELD = "SUSDC"
"""The yield-bearing token over the numeraire, where a world has one."""
TARGETS = {NUMERAIRE: 2_000, "ETH": 5_000, "BTC": 3_000}
"""A plain portfolio of three: weights in basis points, the accounting asset first."""


def reference_vault(
    targets_bps: Mapping[str, int] | None = None,
    *,
    deposit_usd: int = 1_000_000,
    mandate: Mandate | None = None,
    offers: bool = False,
) -> Extra:
    """Return the extra that deploys a reference vault and lets the investor put ``deposit_usd`` of USDC into it.

    ``targets_bps``: asset -> basis points, the numeraire first. Adds to the world's extras ``vault`` and
    ``second_feed:<asset>`` (a second source each, which the arbitrageur keeps at the reference price like the first).
    ``offers``: deploy CoW's settlement and UniswapX too, where the vault may then offer; adds them as ``venue:<kind>``.
    """
    targets = dict(targets_bps or TARGETS)
    if next(iter(targets)) != NUMERAIRE:
        raise ConfigError(f"the first asset is the accounting one and must be {NUMERAIRE}, got {', '.join(targets)}")
    limits = mandate or Mandate()

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        seconds = {}
        for asset in targets:
            ((_, answer),) = [on.view(str(world.token(asset).feed), "latestRoundData()", "uint80,int256")]
            given = [FEED_DECIMALS, f"{asset} second", answer]
            seconds[asset] = on.vyper("mock_feed", ["uint8", "string", "int256"], given)
        sources = [source_on(world, asset, share, seconds[asset]) for asset, share in targets.items()]
        who = {role: account.address for role, account in dev_accounts().items()}
        calls = [(world.contracts["v3_router"], c) for c in TICKS_CALLS]
        calls += [(world.contracts["v2_router"], c) for c in PAIR_CALLS]
        venues = deploy_venues(on, [who[role] for role in BIDDERS]) if offers else Venues()
        calls += [(venues.of(kind), ARM) for kind in VenueKind if offers]
        named = [(p.address, p.venue, p.router) for p in world.pools.values() if {p.asset, p.quote} <= {*targets}]
        roles = who["owner"], who["keeper"], who["guardian"]
        setup = VaultSetup(sources, *roles, calls, limits, delay_s=DELAY_S, pools=named, venues=venues)
        vault = deploy(on.rpc, setup, who["deployer"])
        cash = world.token(NUMERAIRE)
        on.call("investor", cash.address, "approve(address,uint256)", vault, 2**256 - 1)
        amount = deposit_usd * 10**cash.decimals
        on.call("investor", vault, "deposit(uint256,address)", amount, who["investor"])
        found = {f"venue:{kind}": venues.of(kind) for kind in VenueKind if offers}
        for role, asset, kind in itertools.product(BIDDERS, targets, (VenueKind.DUTCH, VenueKind.PRIORITY)):
            if offers:
                on.call(role, world.token(asset).address, "approve(address,uint256)", venues.of(kind), 2**256 - 1)
        return {"vault": vault, **found, **{f"second_feed:{a}": f for a, f in seconds.items()}}

    halves = ("foredrift_vault", "foredrift_investors", "foredrift_auctions", "foredrift_port")
    names = (*halves, "foredrift_oracle", "mock_feed")
    parts = [source_digest(c) for c in names]
    digest = hashlib.sha256(repr((parts, targets, deposit_usd, limits, offers and lock_digest())).encode()).hexdigest()
    return Extra("reference_vault", digest, build)


def safe_account(*, deposit_usd: int = 1_000_000, version: str = "1.5.0") -> Extra:
    """Return the extra that deploys a Safe owned by the keeper (1 of 1) and gives it ``deposit_usd`` of USDC.

    Adds ``safe`` and ``multisend`` to the world's extras. Targets are not on chain; see :func:`safe_spec`.
    """

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        safe, multisend = safe_of(on, world, ("keeper",), 1, deposit_usd, version)
        return {"safe": safe, "multisend": multisend}

    return Extra("safe", hashlib.sha256(repr((lock_digest(), deposit_usd, version)).encode()).hexdigest(), build)


def yield_token(*, assets_usd: int = 10_000_000) -> Extra:
    """Return the extra that deploys a yield-bearing token (ERC-4626 over USDC), ``assets_usd`` in it at a rate of 1.05.

    Adds ``yield_token`` to the world's extras; portfolios of the world call it SUSDC.
    """

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        cash = world.token(NUMERAIRE)
        made = on.vyper("mock_yield", ["address", "string"], [cash.address, YIELD])
        amount = assets_usd * 10**cash.decimals
        on.call("investor", cash.address, "approve(address,uint256)", made, amount)
        on.call("investor", made, "deposit(uint256,address)", amount, dev_accounts()["investor"].address)
        on.call("deployer", made, "earn(uint256)", amount // 20)
        return {"yield_token": made}

    digest = hashlib.sha256(repr((source_digest("mock_yield"), assets_usd)).encode()).hexdigest()
    return Extra("yield_token", digest, build)


def share_token(asset: str, made_of: str, rate: Fraction, *, assets_usd: int) -> Extra:
    """Return the extra that deploys ``asset``, a yield-bearing token over ``made_of`` worth ``rate`` of it.

    The investor has put ``assets_usd`` into it. The world's ``token(asset)`` finds it.
    """

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        under = world.token(made_of)
        made = on.vyper("mock_yield", ["address", "string"], [under.address, asset])
        ((_, answer),) = [on.view(str(under.feed), "latestRoundData()", "uint80,int256")]
        amount = assets_usd * 10 ** (under.decimals + FEED_DECIMALS) // int(str(answer))
        on.call("investor", under.address, "approve(address,uint256)", made, amount)
        on.call("investor", made, "deposit(uint256,address)", amount, dev_accounts()["investor"].address)
        more = int(amount * (rate - 1))
        on.call("deployer", made, "earn(uint256)" if more >= 0 else "lose(uint256)", abs(more))
        return {f"{SHARE}{asset}:{made_of}": made}

    digest = hashlib.sha256(repr((source_digest("mock_yield"), asset, made_of, rate, assets_usd)).encode()).hexdigest()
    return Extra(f"share_{asset}", digest, build)


def _held(world: World, asset: str) -> Token:
    """Return a token of the world, the yield-bearing one too; its feed is that of the asset it is made of."""
    if asset != YIELD:
        return world.token(asset)
    cash = world.token(NUMERAIRE)
    return replace(cash, symbol=YIELD, address=world.extras["yield_token"])


def roles_safe(
    targets_bps: Mapping[str, int] | None = None, *, deposit_usd: int = 1_000_000, allowance_usd: int = 1_000_000
) -> Extra:
    """Return the extra that deploys a Safe of ``owner`` (1 of 1) with Zodiac Roles and the keeper's role installed.

    ``allowance_usd``: what may be sold of each token a day. Adds ``roles_safe``, ``roles_multisend``, ``roles``,
    ``unwrapper`` to the world's extras; see :func:`roles_vault`.
    """
    targets = dict(targets_bps or TARGETS)

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        safe, multisend = safe_of(on, world, ("owner",), 1, deposit_usd, "1.5.0")
        singleton_factory(on)
        found = {"roles_safe": safe, "roles_multisend": multisend, "roles": roles_modifier(on, safe)}
        found["unwrapper"] = unwrapper(on)
        here = replace(world, extras={**world.extras, **found})
        vault = roles_vault(on.rpc, here, targets, allowance_usd=allowance_usd)
        for call in missing_calls(vault, dev_accounts()["keeper"].address, found["unwrapper"]):
            on.call("owner", safe, EXEC, call.to, 0, call.data, 0, 0, 0, 0, ZERO, ZERO, vouched("owner"))
        return found

    folder = Path(scoping.__file__).parent
    parts = [(folder / f"{m}.py").read_bytes() for m in ("scoping", "install", "register")]
    shape = (lock_digest(), source_digest("plan_register"), parts, targets, deposit_usd, allowance_usd)
    return Extra("roles_safe", hashlib.sha256(repr(shape).encode()).hexdigest(), build)


SIGNERS = ("owner", "guardian", "investor")
"""Owners of the local market's Safe that takes proposals; two of them must sign."""


def owners_safe(*, deposit_usd: int = 1_000_000) -> Extra:
    """Return the extra that deploys a Safe of three owners, two of whom must sign, and funds it.

    Adds ``owners_safe`` and ``owners_multisend`` to the world's extras; see :func:`proposed_vault`. Makes EIP-2470's
    factory too.
    """

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        singleton_factory(on)
        safe, multisend = safe_of(on, world, SIGNERS, 2, deposit_usd, "1.5.0")
        return {"owners_safe": safe, "owners_multisend": multisend}

    return Extra("owners_safe", hashlib.sha256(repr((lock_digest(), deposit_usd)).encode()).hexdigest(), build)


def proposed_vault(
    rpc: Rpc, world: World, targets_bps: Mapping[str, int] | None = None, *, mandate: Mandate | None = None,
    signed: bool = False,
) -> ProposedSafe:  # fmt: skip
    """Return the adapter of the world's Safe of three; ``signed``: two development keys sign whatever is built."""
    extras = {"safe": world.extras["owners_safe"], "multisend": world.extras["owners_multisend"]}
    spec = safe_spec(replace(world, extras=extras), targets_bps, mandate=mandate, signed=False)
    owners = {dev_accounts()[o].address: _signing(o) for o in SIGNERS[:2]} if signed else {}
    return ProposedSafe(rpc, replace(spec, owners=owners))


def _signing(role: str) -> SignTyped:
    def sign(typed: Mapping[str, Any]) -> bytes:
        return bytes(Account.sign_typed_data(dev_accounts()[role].key, full_message=dict(typed)).signature)

    return sign


def vouched(role: str) -> bytes:
    """Return the pre-validated signature of an owner who sends the Safe's transaction himself."""
    return bytes(12) + bytes.fromhex(dev_accounts()[role].address[2:]) + bytes(32) + b"\x01"


def roles_vault(
    rpc: Rpc,
    world: World,
    targets_bps: Mapping[str, int] | None = None,
    *,
    mandate: Mandate | None = None,
    allowance_usd: int = 1_000_000,
) -> RolesSafe:
    """Return the adapter of the world's Safe with roles, scoped to all pools among its tokens."""
    extras = {**world.extras, "safe": world.extras["roles_safe"], "multisend": world.extras["roles_multisend"]}
    spec = safe_spec(replace(world, extras=extras), targets_bps, mandate=mandate, signed=False)
    shares = [t.address for t in spec.tokens if t.address == world.extras.get("yield_token")]
    calls = [(a, call) for a in shares for call in (DEPOSIT, REDEEM)]
    spec = replace(spec, yields=tuple(describe(rpc, shares)), calls=(*spec.calls, *calls))
    rows = [(p.address, p.venue, p.router) for p in world.pools.values()] + [(a, VENUE, a) for a in shares]
    lanes = scoping.lanes_of(describe_pools(rpc, rows), spec.tokens)
    feeds = [Call(s.feed, "latestRoundData()", "uint80,int256") for s in spec.sources]
    prices = [cast("int", row[1]) for row in read(rpc, feeds)]
    refill = {
        t.address: allowance_usd * 10 ** (t.decimals + FEED_DECIMALS) // price
        for t, price in zip(spec.tokens, prices, strict=True)
    }
    return RolesSafe(rpc, spec, world.extras["roles"], scoping.Scope(spec.tokens, lanes, refill))


def safe_of(
    on: Deployer, world: World, owners: Sequence[str], threshold: int, deposit_usd: int, version: str
) -> tuple[str, str]:
    """Deploy a Safe of these roles' accounts, fund it, and return it with its MultiSendCallOnly."""
    of = "" if version == "1.5.0" else f" {version}"  # the newest has its plain name among the artefacts
    singleton, factory = on.package(f"Safe{of}"), on.package(f"SafeProxyFactory{of}")
    multisend, handler = on.package(f"MultiSendCallOnly{of}"), on.package(f"CompatibilityFallbackHandler{of}")
    accounts = [dev_accounts()[o].address for o in owners]
    setup = calldata(
        "setup(address[],uint256,address,bytes,address,address,uint256,address)",
        *(accounts, threshold, ZERO, b"", handler, ZERO, 0, ZERO),
    )
    receipt = on.call("deployer", factory, "createProxyWithNonce(address,bytes,uint256)", singleton, setup, 0)
    logs = [log for log in receipt["logs"] if str(log["address"]).lower() == factory.lower()]  # type: ignore[attr-defined]
    place = logs[0]["topics"][1] if len(logs[0]["topics"]) > 1 else logs[0]["data"][:66]  # not indexed in 1.3.0
    safe = str(to_checksum_address("0x" + place[-40:]))
    cash = world.token(NUMERAIRE)
    on.call("investor", cash.address, "transfer(address,uint256)", safe, deposit_usd * 10**cash.decimals)
    return safe, multisend


def safe_spec(
    world: World, targets_bps: Mapping[str, int] | None = None, *, mandate: Mandate | None = None, signed: bool = True
) -> SafeSpec:
    """Return the spec of the world's Safe: ``signed`` by the keeper's development key, else vouched for by sending."""
    targets = dict(targets_bps or TARGETS)
    keeper = dev_accounts()["keeper"]
    tokens = tuple(replace(_held(world, a), address=to_checksum_address(_held(world, a).address)) for a in targets)
    calls = [(world.contracts["v3_router"], c) for c in TICKS_CALLS]
    calls += [(world.contracts["v2_router"], c) for c in PAIR_CALLS]
    sources = []
    for token in tokens:
        feed = (token.address, token.decimals, str(token.feed), HEARTBEAT_S, FEED_DECIMALS)
        sources.append(PriceSource(*feed, "0x" + "0" * 40, 0, 0, 0, ALONE))
    return SafeSpec(
        address=world.extras["safe"],
        multisend=world.extras["multisend"],
        chain_id=world.chain_id,
        tokens=tokens,
        targets_bps=tuple(targets.values()),
        sources=tuple(sources),
        calls=tuple(calls),
        mandate=mandate or Mandate(),
        owners={keeper.address: _signing("keeper")} if signed else {},
        sender=keeper.address,
    )


def source_on(world: World, asset: str, target_bps: int, second: str) -> TokenSource:
    """Return the price source of a token of the world, with its second feed at ``second``."""
    token = world.token(asset)
    return TokenSource(
        to_checksum_address(token.address),
        token.decimals,
        target_bps,
        str(token.feed),
        HEARTBEAT_S,
        FEED_DECIMALS,
        second,
        HEARTBEAT_S,
        FEED_DECIMALS,
        DEVIATION_BPS,
        SECOND_FEED,
    )

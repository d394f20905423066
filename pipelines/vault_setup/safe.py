"""The configured Safe as a vault: tokens, feeds, targets and mandate, which it cannot hold, are the settings'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from eth_utils.address import is_address, to_checksum_address

from lake.errors import ConfigError, RpcError
from lake.evm import Call, read, symbols
from lake.rpc import Rpc
from lake.units import duration
from lake.universe import chain
from lake.venues import TICKS_CALLS, venue
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.paper import in_bps
from pipelines.vault_setup.rates import seen_rates
from pipelines.wiring import mandate_of
from policy.execution.base import Token
from policy.execution.checks.oracle_rules import ALONE, PriceSource
from policy.execution.routing.pool_reader import describe_pools
from policy.execution.routing.yields import VENUE, describe
from policy.execution.submission.signer import ExternalSigner, KeystoreSigner
from policy.execution.vaults.enzyme.adapter import EnzymeFund, fund_of
from policy.execution.vaults.safe.adapter import ZERO, SafeAccount, SafeSpec, SignTyped
from policy.execution.vaults.safe.proposal import ProposedSafe
from policy.execution.vaults.safe.roles import RolesSafe
from policy.execution.vaults.safe.scoping import Scope, lanes_of


def safe_of(
    deployment: VaultSettings, rpc: Rpc, keeper: str, signer: KeystoreSigner | ExternalSigner | None
) -> SafeAccount:
    """Return the adapter of the configured Safe: traded by role, by proposals, or by a keeper who is its only owner.

    Without a ``signer`` (a dry run) such a keeper vouches for the batch as its sender, which is enough to simulate it.
    Raises ConfigError naming what is missing, or when the Safe needs more owners than that keeper.
    """
    if deployment.vault.access == "roles":
        return roles_safe_of(deployment, rpc, keeper)
    if deployment.vault.access == "proposal":
        return ProposedSafe(rpc, _spec(deployment, rpc, keeper, {}))
    spec = _spec(deployment, rpc, keeper, {} if signer is None else {signer.address: signer.sign_typed})
    views = [Call(spec.address, "getThreshold()", "uint256"), Call(spec.address, "isOwner(address)", "bool", (keeper,))]
    (needed,), (owner,) = read(rpc, views)
    if not owner or needed != 1:
        raise ConfigError(
            f"the Safe needs {needed} signatures, the keeper {keeper} is {'one' if owner else 'none'} of its owners; "
            '[vault] access = "owner-key-can-take-all" signs with the keeper\'s key alone: set access = "roles", where '
            "the keeper is no owner and can only swap within its allowance (docs/vaults.md)"
        )
    return SafeAccount(rpc, spec)


def roles_safe_of(deployment: VaultSettings, rpc: Rpc, keeper: str) -> RolesSafe:
    """Return the adapter of the configured Safe traded through Zodiac Roles; its scope lists the configured pools."""
    if deployment.vault.roles is None:
        raise ConfigError(
            "a Safe is traded through Zodiac Roles: set [vault] roles to the address of its modifier and run "
            '`foredrift vault roles` (docs/vaults.md); access = "owner-key-can-take-all" trades with the keeper as the '
            "only owner, whose stolen key takes everything"
        )
    spec = _spec(deployment, rpc, keeper, {})
    routers = {target for target, _ in spec.calls}
    pools = deployment.sources.pools
    rows = [(p.address, p.venue, p.address if p.venue == VENUE else p.router or "") for p in pools]
    rows = [row for row in rows if row[2]]
    listed = [row for row in rows if to_checksum_address(row[2]) in routers]
    if not listed:
        raise ConfigError("no pool to trade in: add [[sources.pools]] rows with address, venue, router and asset")
    scope = Scope(spec.tokens, lanes_of(describe_pools(rpc, listed), spec.tokens))
    return RolesSafe(rpc, spec, _address(deployment.vault.roles, "[vault] roles"), scope)


def enzyme_of(deployment: VaultSettings, rpc: Rpc, keeper: str) -> EnzymeFund:
    """Return the adapter of the configured Enzyme fund. Raises ConfigError naming what is missing or does not fit."""
    other = [p.address for p in deployment.sources.pools if venue(p.venue).calls != TICKS_CALLS]
    if other:
        raise ConfigError(f"an Enzyme fund trades in Uniswap v3 pools; remove {', '.join(other)} or use another vault")
    vault = _address(deployment.vault.address, "[vault] address")
    swapper = _address(deployment.vault.swapper, "[vault] swapper")
    try:
        ((comptroller,),) = read(rpc, [Call(vault, "getAccessor()", "address")])
    except RpcError as error:
        raise ConfigError(f"[vault] address {vault} is no vault proxy of an Enzyme v4 fund ({error})") from None
    fund = fund_of(rpc, str(to_checksum_address(str(comptroller))), swapper)
    spec = _spec(deployment, rpc, keeper, {})
    legs = replace(spec.mandate, max_legs=1, cooldown_s=0)  # a rebalance is plan after plan, block after block
    return EnzymeFund(rpc, replace(spec, mandate=legs), fund)


def _spec(deployment: VaultSettings, rpc: Rpc, keeper: str, owners: Mapping[str, SignTyped]) -> SafeSpec:
    given = deployment.vault
    tokens, sources = _tokens(deployment, rpc)
    sequencer = deployment.chain.sequencer_feed
    return SafeSpec(
        address=_address(given.address, "[vault] address"),
        multisend=ZERO if given.kind == "enzyme" else _address(given.multisend, "[vault] multisend"),
        chain_id=deployment.chain.id,
        tokens=tokens,
        targets_bps=in_bps(list(deployment.portfolio.weights.values())),
        sources=sources,
        calls=calls_of(deployment),
        mandate=mandate_of(deployment.mandate, len(deployment.portfolio.assets)),
        owners=owners,
        sender=keeper,
        sequencer=None if sequencer is None else to_checksum_address(sequencer),
        block_time_s=max(1, round(chain(deployment.chain.id).block_time_s)),
        yields=tuple(describe(rpc, _shares(deployment))),
        seen=seen_rates(deployment),
    )


def _shares(deployment: VaultSettings) -> list[str]:
    """Return the addresses of the yield-bearing tokens; ConfigError where one is not held, so has no rate to guard."""
    held = {address.lower() for address in deployment.vault.tokens.values()}
    rows = [p for p in deployment.sources.pools if p.venue == VENUE]
    lost = [p.address for p in rows if p.address.lower() not in held]
    if lost:
        raise ConfigError(f"[[sources.pools]] {', '.join(lost)}: a vault of shares must be one of [vault.tokens]")
    return [str(to_checksum_address(p.address)) for p in rows]


def calls_of(deployment: VaultSettings) -> tuple[tuple[str, str], ...]:
    """Return the (router, function) pairs a plan may call: those of the configured pools, cut to [mandate] allow."""
    allowed = {a.lower() for a in deployment.mandate.allow}
    pairs = {
        (to_checksum_address(router), call): None
        for pool in deployment.sources.pools
        for router in ([pool.address] if pool.venue == VENUE else [pool.router] if pool.router else [])
        if not allowed or router.lower() in allowed
        for call in venue(pool.venue).calls
    }
    return tuple(pairs)


def _tokens(deployment: VaultSettings, rpc: Rpc) -> tuple[tuple[Token, ...], tuple[PriceSource, ...]]:
    """Return tokens and price sources in the portfolio's order; decimals and symbols (for messages only) are
    asked of the contracts.
    """
    assets, listed = deployment.portfolio.assets, deployment.vault.tokens
    feeds = {f.asset: f for f in deployment.sources.feeds}
    absent = [f"[vault] tokens.{a}" for a in assets if a not in listed]
    absent += [f"a [[sources.feeds]] row with asset {a}" for a in assets if a not in feeds]
    if absent:
        raise ConfigError(f"a Safe knows neither its tokens nor their prices; add {', '.join(absent)}")
    addresses = [_address(listed[a], f"[vault] tokens.{a}") for a in assets]
    rows: list[Any] = []
    for asset, token in zip(assets, addresses, strict=True):
        feed = _address(feeds[asset].address, f"the feed of {asset}")
        rows += [Call(token, "decimals()", "uint8"), Call(feed, "decimals()", "uint8")]
    told = [row[0] for row in read(rpc, rows)]
    names = symbols(rpc, addresses)
    tokens, sources = [], []
    for i, asset in enumerate(assets):
        decimals, digits = cast("int", told[2 * i]), cast("int", told[2 * i + 1])
        feed = to_checksum_address(feeds[asset].address)
        heartbeat_s = int(duration(feeds[asset].heartbeat).total_seconds())
        tokens.append(Token(names[i], addresses[i], decimals, feed))
        sources.append(PriceSource(addresses[i], decimals, feed, heartbeat_s, digits, ZERO, 0, 0, 0, ALONE))
    return tuple(tokens), tuple(sources)


def _address(text: str | None, name: str) -> str:
    if text is None or not is_address(text):
        raise ConfigError(f"set {name} to a contract's address" + ("" if text is None else f", not {text!r}"))
    return str(to_checksum_address(text))

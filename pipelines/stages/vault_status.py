"""``foredrift vault status``: the reference vault as the chain has it, and what differs from the settings."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError, RpcError
from lake.evm import Call, read, try_read
from lake.rpc import Rpc, quantity
from lake.units import BPS, duration
from lake.venues import venue
from pipelines.deploy_section import DeploySection
from pipelines.stages.keys import show
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.paper import in_bps
from pipelines.wiring import rpc_of
from policy.execution.checks.oracle_rules import GOOD
from policy.execution.checks.rules import PPB
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.reference.state import VaultState

Shown = dict[str, Any]
Difference = tuple[str, str]
"""(what differs, what to do)."""
PENDING = frozenset({"vault set-targets", "vault set-mandate"})
"""Remedies of what the settings ask for and the vault does not do yet: no danger, the chain's word holds."""
GAS_OF_A_PLAN = 700_000
"""Gas that a plan of some legs takes; a keeper without the money for three of them is warned of."""


def status(deployment: VaultSettings, given: DeploySection) -> Shown:
    """Return the vault at the newest block: tokens, roles with gas money, pause, and ``differs`` in words."""
    if deployment.vault.kind != "reference" or deployment.vault.address is None:
        raise ConfigError('this is for a reference vault: [vault] kind = "reference" and its address (vault deploy)')
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    vault = ReferenceVault(rpc, deployment.vault.address)
    s = vault.state()
    weights = s.book.weights_bps()
    tokens = [
        {
            "symbol": t.symbol, "address": t.address, "amount": str(Decimal(s.book.holdings[i]) / 10**t.decimals),
            "price_usd": s.book.prices_e8[i] / 1e8, "weight_bps": weights[i], "target_bps": s.book.targets_bps[i],
            "good": s.codes[i] == GOOD,
        }
        for i, t in enumerate(s.book.tokens)
    ]  # fmt: skip
    delay, *people = _people(rpc, vault.address)
    roles = [
        {"role": role, "address": address,
         "gas_money_wei": quantity(rpc.call("eth_getBalance", [address, "latest"]))}
        for role, address in zip(("owner", "keeper", "guardian"), people, strict=True)
    ]  # fmt: skip
    return {
        "vault": vault.address, "block": s.head.number, "tokens": tokens, "roles": roles, "paused": s.pause,
        "nav": str(Decimal(s.book.nav()) / 10 ** s.book.tokens[0].decimals), "plans": s.clock.nonce,
        "delay_s": int(delay), "oracle": s.layout.oracle,
        "differs": [f"{words} ({remedy})" for words, remedy in differences(deployment, given, rpc, vault, s)],
    }  # fmt: skip


def differences(
    deployment: VaultSettings, given: DeploySection, rpc: Rpc, vault: ReferenceVault, s: VaultState
) -> Iterator[Difference]:
    """Yield everything in which the vault on the chain is not what the settings describe, with the remedy."""
    yield from _roles(deployment, given, rpc, vault)
    yield from _tokens(deployment, s)
    yield from _feeds(deployment, s)
    yield from _calls(deployment, rpc, vault, s)
    given_here = deployment.mandate
    asked = (given_here.max_slippage_bps, given_here.max_turnover_bps, given_here.loss_budget_bps * PPB // BPS)
    told = (s.mandate.leg_loss_bps, s.mandate.turnover_bps, s.mandate.loss_budget_ppb)
    if asked != told:
        words = "bp a leg, bp of turnover and ppb a day"
        yield f"its limits are {told} {words}, [mandate] asks for {asked}", "vault set-mandate"
    if s.pause:
        yield f"{s.pause} has paused it", "find out why, then vault resume"


def _people(rpc: Rpc, vault: str) -> tuple[str, ...]:
    asks = [
        Call(vault, "delay()", "uint256"),
        *(Call(vault, f"{r}()", "address") for r in ("owner", "keeper", "guardian")),
    ]
    delay, *people = read(rpc, asks)
    return (str(delay[0]), *(to_checksum_address(str(p[0])) for p in people))


def _roles(deployment: VaultSettings, given: DeploySection, rpc: Rpc, vault: ReferenceVault) -> Iterator[Difference]:
    """Yield roles on the chain that are not those of the keystores, and a keeper without gas money."""
    delay, *people = _people(rpc, vault.address)
    on_chain = dict(zip(("owner", "keeper", "guardian"), people, strict=True))
    here = {row["role"]: row["address"] for row in show(deployment, given)} if _named(deployment, given) else {}
    for role, address in here.items():
        if address is not None and address != on_chain[role]:
            yield (
                f"its {role} is {on_chain[role]}, the keystore's is {address}",
                "foredrift keys show; is it this vault?",
            )
    wanted_s = int(duration(given.delay).total_seconds())
    if given.owner is not None and int(delay) != wanted_s:
        yield f"its changes are announced {delay} s, [deploy] delay is {wanted_s} s", "set [deploy] delay to what is"
    money = quantity(rpc.call("eth_getBalance", [on_chain["keeper"], "latest"]))
    price = quantity(rpc.call("eth_gasPrice"))
    if money < 3 * GAS_OF_A_PLAN * price:
        needed = 3 * GAS_OF_A_PLAN * price / 10**18
        yield (
            (
                f"the keeper {on_chain['keeper']} has {money / 10**18:.6f} of the chain's coin; three plans take "
                f"about {needed:.6f}"
            ),
            "send it some",
        )


def _named(deployment: VaultSettings, given: DeploySection) -> bool:
    return any((deployment.vault.keystore, given.owner, given.guardian))


def _tokens(deployment: VaultSettings, s: VaultState) -> Iterator[Difference]:
    held = [t.address for t in s.book.tokens]
    wanted = [deployment.vault.tokens.get(a) for a in deployment.portfolio.assets]
    if len(held) != len(wanted):
        yield (
            f"it holds {len(held)} tokens, [portfolio] lists {len(wanted)} assets",
            "list one asset a token, in its order",
        )
        return
    for asset, address, token in zip(deployment.portfolio.assets, held, wanted, strict=True):
        if token is not None and to_checksum_address(token) != address:
            yield (
                f"its token for {asset} is {address}, [vault.tokens] says {token}",
                "correct [vault.tokens] or the order",
            )
    bps = in_bps(list(deployment.portfolio.weights.values()))
    if bps != tuple(s.book.targets_bps):
        yield f"its targets are {list(s.book.targets_bps)} bp, [portfolio] asks for {list(bps)}", "vault set-targets"


def _feeds(deployment: VaultSettings, s: VaultState) -> Iterator[Difference]:
    """Yield feeds and ages by which its oracle prices tokens otherwise than the settings say."""
    feeds = {f.asset: f for f in deployment.sources.feeds}
    for asset, source in zip(deployment.portfolio.assets, s.layout.sources, strict=False):
        row = feeds.get(asset)
        if row is None:
            continue
        if to_checksum_address(row.address) != source.feed:
            yield f"its oracle prices {asset} by {source.feed}, [[sources.feeds]] says {row.address}", "correct the row"
        wanted_s = int(duration(row.heartbeat).total_seconds())
        if wanted_s != source.heartbeat_s:
            yield (
                f"its oracle takes prices of {asset} up to {source.heartbeat_s} s old, here {wanted_s} s",
                "correct the row",
            )
    given = deployment.chain.sequencer_feed
    if (given and to_checksum_address(given)) != s.layout.sequencer:
        yield (
            f"its oracle asks the sequencer feed {s.layout.sequencer}, [chain] names {given}",
            "correct sequencer_feed",
        )


def _calls(deployment: VaultSettings, rpc: Rpc, vault: ReferenceVault, s: VaultState) -> Iterator[Difference]:
    """Yield router calls that plans need and the vault does not allow, and allowances that it left standing."""
    from lake.evm import selector

    routers = sorted({(to_checksum_address(p.router), p.venue) for p in deployment.sources.pools if p.router})
    pairs = [(router, call) for router, name in routers for call in venue(name).calls]
    asks = [Call(vault.address, "call_allowed(address,bytes4)", "bool", (r, selector(c))) for r, c in pairs]
    for (router, call), row in zip(pairs, read(rpc, asks, s.head.hash), strict=True):
        if not row[0]:
            yield (
                f"it does not allow {call.split('(')[0]} of {router}",
                "let the owner allow it (set_call), or drop the pool",
            )
    spends = [(t, router) for t in s.book.tokens for router, _ in routers]
    asks = [Call(t.address, "allowance(address,address)", "uint256", (vault.address, r)) for t, r in spends]
    for (token, router), told in zip(spends, try_read(rpc, asks, s.head.hash), strict=True):
        if not isinstance(told, RpcError) and int(str(told[0])):
            yield (
                (f"{router} may still take {told[0]} of {token.symbol} from it: an approval was left standing"),
                "pause it and ask; a plan leaves none",
            )

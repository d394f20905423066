"""A local market of eight tokens with a reference vault and a Safe, and what can be wrong with one of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from lake.evm import calldata
from lake.rpc import Rpc
from lake.units import bps
from policy.base import ChainFees
from policy.execution.checks.guards import FeedRule
from policy.execution.checks.rules import Mandate
from policy.execution.context import EngineContext, Limits
from policy.execution.planner import PlanRules
from policy.execution.routing.pool_reader import TradedPool, describe_pools, read_pools
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.reference.logs import REBALANCED
from policy.execution.vaults.safe.adapter import SafeAccount
from policy.execution.vaults.safe.history import executions
from policy.execution.vaults.safe.roles import RolesSafe
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import reference_vault, roles_safe, roles_vault, safe_account, safe_spec
from tests.chain_fixtures import CLOCK
from tests.execution.chainlab import chain_context

PRICES = {"ETH": 1_500.0, "BTC": 20_000.0, "LINK": 7.0, "UNI": 6.0, "AAVE": 80.0, "MKR": 1_200.0, "CRV": 2.0}
TARGETS = {"USDC": 1_250, **dict.fromkeys(PRICES, 1_250)}
CAP = 0.05
MANDATE = Mandate(leg_loss_bps=200, turnover_bps=10_000, max_legs=8, cooldown_s=0, loss_budget_ppb=50_000_000)
FAULT = "set_fault(uint256,uint256,address,bytes)"
ZERO = "0x" + "0" * 40
FEE, RETURNS_FALSE, PAUSED, BLACKLIST, SHARES, NO_SALE, SALE_FEE, GROWS = 1, 2, 5, 6, 7, 8, 9, 10
SICK = "LINK"
Adapter = Callable[[Localnet, Rpc], Any]


@contextmanager
def market() -> Iterator[Localnet]:
    """The market, one process for as many cases as are run in it."""
    extras = [reference_vault(TARGETS, mandate=MANDATE, deposit_usd=100_000), safe_account(deposit_usd=100_000)]
    extras += [roles_safe(TARGETS, deposit_usd=100_000)]
    with start(PRICES, extras=extras, at=CLOCK) as net:
        yield net


def reference(net: Localnet, rpc: Rpc) -> ReferenceVault:
    """The reference vault of the market."""
    return ReferenceVault(rpc, net.world.extras["vault"])


def safe(net: Localnet, rpc: Rpc) -> SafeAccount:
    """The Safe of the market."""
    return SafeAccount(rpc, safe_spec(net.world, TARGETS, mandate=MANDATE))


def roles(net: Localnet, rpc: Rpc) -> RolesSafe:
    """The Safe of the market whose keeper has a role and is no owner."""
    return roles_vault(rpc, net.world, TARGETS, mandate=MANDATE)


ADAPTERS: dict[str, Adapter] = {"reference": reference, "safe": safe, "roles": roles}
"""Every adapter of the conformance table; a later one joins by a row."""


def infos(net: Localnet, leave: Sequence[str] = ()) -> list[TradedPool]:
    """Constants of the market's pools, without those of the assets ``leave``."""
    refs = [p for p in net.world.pools.values() if not {p.asset, p.quote} & set(leave)]
    return describe_pools(net.node.admin, [(p.address, p.venue, p.router) for p in refs])


def context(folder: Path, net: Localnet, adapter: str, leave: Sequence[str] = (), **more: Any) -> EngineContext:
    """A live context on one of the vaults, moving to target; pools of the assets ``leave`` are not configured."""
    rpc = Rpc(net.url, timeout=10, tries=1)
    rpc.expect_chain(net.chain_id)
    vault = ADAPTERS[adapter](net, rpc)
    known = infos(net, leave)
    n = len(TARGETS)

    def view(snapshot: Any) -> OffchainView:
        at = datetime.fromtimestamp(snapshot.block_time, UTC) - timedelta(minutes=5)
        return OffchainView({}, np.eye(n) * 1e-8, 1_500.0, at)

    fields: dict[str, Any] = {
        "vault": vault,
        "vault_address": vault.address if adapter == "reference" else vault.spec.address,
        "portfolio": RiskTerms(tuple(TARGETS), np.full(n, CAP), 3.0, "soft", ChainFees(net.chain_id)),
        "view": view,
        "pools": lambda snapshot: read_pools(rpc, known, snapshot.block_hash),
        "limits": Limits(
            plan=PlanRules(max_slippage_bps=bps(200), max_legs=8),
            feeds={t.address: FeedRule(heartbeat_s=90_000) for t in net.world.tokens.values()},
        ),
    }
    return chain_context(folder, net, rpc, **{**fields, **more})


def executed(net: Localnet, ctx: EngineContext) -> int:
    """How often the account has traded."""
    if isinstance(ctx.vault, RolesSafe):
        return ctx.vault.snapshot().plan_nonce
    if isinstance(ctx.vault, SafeAccount):
        return len(executions(net.node.admin, ctx.vault_address, 0, "latest"))
    ask = {"address": ctx.vault_address, "topics": [REBALANCED], "fromBlock": "0x0"}
    logs = net.node.admin.call("eth_getLogs", [ask])
    assert isinstance(logs, list)
    return len(logs)


def afflict(net: Localnet, asset: str, kind: int, argument: int = 0, subject: str = ZERO) -> None:
    """Let the asset's token misbehave from now on; kind 0 heals it."""
    net.send("deployer", net.world.token(asset).address, calldata(FAULT, kind, argument, subject, b""))
    net.mine()


def post(net: Localnet, asset: str, price: float) -> None:
    """Post ``price`` (USD) on both feeds of the asset."""
    for feed in (str(net.world.token(asset).feed), net.world.extras[f"second_feed:{asset}"]):
        net.send("deployer", feed, calldata("post(int256)", int(price * 1e8)))
    net.mine()


def pools_of(net: Localnet, asset: str) -> list[str]:
    """Addresses of the asset's pools."""
    return [p.address for p in net.world.pools.values() if asset in {p.asset, p.quote}]


def blind(ctx: EngineContext) -> EngineContext:
    """The same context without the probe: only a failed simulation shows what is sick."""
    from policy.execution.probes.roundtrip import Proven

    return replace(ctx, probe=lambda snapshot, pools: Proven())


@dataclass(frozen=True)
class Illness:
    """One way a token may be sick: how it begins, and how it ends."""

    begin: Callable[[Localnet, str], None]
    end: Callable[[Localnet], None]
    unlisted: bool = False  # no pool of it is configured
    price: bool = False  # its price is at fault, which the vault itself judges


def token(kind: int, argument: int = 0, subject: Callable[[Localnet, str], str] | None = None) -> Illness:
    """A fault of the token contract."""
    return Illness(
        lambda net, vault: afflict(net, SICK, kind, argument, subject(net, vault) if subject else ZERO),
        lambda net: afflict(net, SICK, 0),
    )


ILLNESSES: Mapping[str, Illness] = {
    "paused": token(PAUSED),
    "blacklisted vault": token(BLACKLIST, subject=lambda net, vault: vault),
    "fee on transfer": token(FEE, 300),
    "rebasing shares": token(SHARES),
    "without a route": Illness(lambda net, vault: None, lambda net: None, unlisted=True),
    "without a good price": Illness(lambda net, vault: post(net, SICK, -1), lambda net: post(net, SICK, 7), price=True),
}

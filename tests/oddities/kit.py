"""A local market of eight tokens with a reference vault and a Safe, and what can be wrong with one of the tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from eth_utils.address import to_checksum_address

from lake.evm import calldata
from lake.rpc import Rpc
from lake.units import bps
from policy.base import ChainFees
from policy.execution.checks.guards import FeedRule
from policy.execution.checks.rules import Mandate
from policy.execution.context import EngineContext, Limits, StepReport
from policy.execution.engine import step
from policy.execution.planner import PlanRules
from policy.execution.proposing import ProposalFile, propose
from policy.execution.routing.pool_reader import TradedPool, describe_pools, read_pools
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.vaults.enzyme.adapter import EnzymeFund
from policy.execution.vaults.enzyme.events import calls_made
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.reference.logs import REBALANCED
from policy.execution.vaults.safe.adapter import SafeAccount
from policy.execution.vaults.safe.history import executions
from policy.execution.vaults.safe.proposal import Proposal, ProposedSafe
from policy.execution.vaults.safe.roles import RolesSafe
from policy.localnet.accounts import dev_accounts
from policy.localnet.enzyme import enzyme_fund, enzyme_vault
from policy.localnet.lagoon import lagoon_adapter, lagoon_vault
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import (
    SIGNERS,
    owners_safe,
    proposed_vault,
    reference_vault,
    roles_safe,
    roles_vault,
    safe_account,
    safe_spec,
)
from tests.chain_fixtures import CLOCK
from tests.execution.chainlab import chain_context
from tests.execution.vault_kit import no_lagoon

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
    extras += [roles_safe(TARGETS, deposit_usd=100_000), enzyme_fund(TARGETS, deposit_usd=100_000)]
    extras += [owners_safe(deposit_usd=100_000)]
    extras += [lagoon_vault(TARGETS, deposit_usd=100_000)] if "lagoon" in available() else []
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


def enzyme(net: Localnet, rpc: Rpc) -> EnzymeFund:
    """The Enzyme fund of the market; it trades one leg a call, so a rebalance goes on in the next."""
    return enzyme_vault(rpc, net.world, TARGETS, mandate=MANDATE)


def owners(net: Localnet, rpc: Rpc) -> ProposedSafe:
    """The Safe of the market whose owners sign every plan."""
    return proposed_vault(rpc, net.world, TARGETS, mandate=MANDATE)


def lagoon(net: Localnet, rpc: Rpc) -> LagoonVault:
    """The Lagoon vault of the market, whose Safe is traded by role."""
    return lagoon_adapter(rpc, net.world, TARGETS, mandate=MANDATE)


WHOLE: dict[str, Adapter] = {"reference": reference, "safe": safe, "roles": roles}
"""Adapters that trade a whole rebalance at once, signed by the keeper alone."""
ADAPTERS: dict[str, Adapter] = {**WHOLE, "owners": owners, "enzyme": enzyme, "lagoon": lagoon}
"""Every adapter of the conformance table; a later one joins by a row."""


def available() -> tuple[str, ...]:
    """The adapters whose contracts can be had here; what is missing is said."""
    why = no_lagoon()
    if why is not None:
        warnings.warn(f"without Lagoon: {why}", stacklevel=2)
    return tuple(a for a in ADAPTERS if a != "lagoon" or why is None)


def stepped(ctx: EngineContext) -> StepReport:
    """Run a step; what is laid before a Safe's owners, two of them sign at once."""
    if not isinstance(ctx.vault, ProposedSafe):
        return step(ctx)
    vault, store = ctx.vault, ProposalFile(ctx.journal.path.parent / "proposal.json")

    def signatures(proposal: Proposal) -> dict[str, bytes]:
        typed = dict(vault.typed(proposal.plan, proposal.safe_nonce))
        keys = [dev_accounts()[role] for role in SIGNERS[:2]]
        return {k.address: bytes(Account.sign_typed_data(k.key, full_message=typed).signature) for k in keys}

    first = propose(ctx, store, signatures, lambda proposal: "laid before the owners")
    if first.outcome != "proposed":
        return first
    done = propose(ctx, store, signatures, lambda proposal: "laid before the owners")
    done.verdicts[:0] = [v for v in first.verdicts if v not in done.verdicts]
    return done


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
    if isinstance(ctx.vault, EnzymeFund):
        fund = ctx.vault.fund
        return len(calls_made(net.node.admin, fund.manager, fund.comptroller, 0, "latest"))
    if isinstance(ctx.vault, (RolesSafe, ProposedSafe)):
        return ctx.vault.snapshot().plan_nonce
    if isinstance(ctx.vault, SafeAccount):
        return len(executions(net.node.admin, ctx.vault_address, 0, "latest"))
    ask = {"address": ctx.vault_address, "topics": [REBALANCED], "fromBlock": "0x0"}
    logs = net.node.admin.call("eth_getLogs", [ask])
    assert isinstance(logs, list)
    return len(logs)


def in_parts(ctx: EngineContext) -> bool:
    """Whether the vault takes one leg a call, so that the next step of the hour goes on with the rebalance."""
    return isinstance(ctx.vault, EnzymeFund)


def left_alone(net: Localnet, report: StepReport) -> bool:
    """Whether a plan that landed did not touch the sick token."""
    assert report.settlement is not None
    return report.settlement.deltas[str(to_checksum_address(net.world.token(SICK).address))] == 0


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

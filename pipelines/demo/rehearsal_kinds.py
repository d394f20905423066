"""What a rehearsal does for each kind of vault: the vault on the local chain, its settings, and what people do besides.

Owners give the keeper its role by the same verb as live; owners who sign each trade sign within the hour; holders of a
Lagoon vault ask to come and to leave on the first day, and their requests are valued and settled by the verb.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from lake.errors import ConfigError, ExecutionError
from lake.evm import Call, read
from lake.rpc import Rpc
from lake.venues import TICKS_CALLS, venue
from pipelines.deployments import Deployment
from pipelines.sections import VaultSection
from pipelines.stages.vault_roles import roles
from pipelines.stages.vault_settle import settle
from policy.execution.checks.rules import Mandate
from policy.execution.proposing import ProposalFile
from policy.localnet.lagoon import VALUER
from policy.localnet.market import Localnet
from policy.localnet.own_kinds import own_fund, own_lagoon, own_safe
from policy.localnet.own_vault import own_vault
from policy.localnet.portfolio import SIGNERS
from policy.localnet.world import Extra

TOLERANCE = 0.03
"""Slippage a week that the rehearsed Enzyme fund lets its manager cause; a fund's own is not in any setting."""
ASKED_BPS = 100
"""Of its shares the holder asks back on a Lagoon vault's first day, basis points; half as much asks to come in."""
OWNER_FILE = "owner.json"


@dataclass(frozen=True, slots=True)
class Done:
    """What people did after a decision, in words; ``again``: another run an hour later has something to do."""

    words: str = ""
    again: bool = False


Began = Callable[[Localnet, Deployment], None]
Followed = Callable[[Localnet, Deployment], Done]


def _nothing(net: Localnet, local: Deployment) -> None:
    del net, local


def _nobody(net: Localnet, local: Deployment) -> Done:
    del net, local
    return Done()


@dataclass(frozen=True, slots=True)
class RehearsedKind:
    """How one kind of vault is rehearsed.

    ``section``: its addresses in ``[vault]``, by the names of the world's extras. ``begin`` runs once before the first
    decision, ``follow`` after each. ``venues``: at which of the market's venues it trades.
    """

    words: str
    deployed: Callable[[Deployment, Mapping[str, int], Mapping[str, int], Mandate], Extra]
    section: tuple[str, ...] = ()
    begin: Began = _nothing
    follow: Followed = _nobody
    venues: Callable[[str], bool] = lambda _: True


def kind_of(own: Deployment) -> RehearsedKind:
    """Return how ``own`` is rehearsed."""
    if own.vault.kind == "safe":
        return KINDS[own.vault.access]
    return KINDS.get(own.vault.kind, KINDS["reference"])


def section_of(own: Deployment, net: Localnet, kind: RehearsedKind) -> VaultSection:
    """Return ``[vault]`` of the rehearsal: the local vault's addresses, and what ``own`` says of its limits."""
    given, held = own.vault, net.world.extras
    addresses: dict[str, Any] = {name: held[name] for name in kind.section}
    tokens = {a: net.world.token(a).address for a in own.portfolio.assets} if kind.section else {}
    return VaultSection(
        kind="reference" if given.kind == "simulated" else given.kind, access=given.access, address=held["vault"],
        keeper=net.accounts["keeper"].address, keystore="keeper.json", journal="journal", audit="audit.jsonl",
        relay_url=SecretStr(net.url), tokens=tokens, allowance_bps=given.allowance_bps,
        proposal_life=given.proposal_life, sign_nav=given.sign_nav, nav_change_bps=given.nav_change_bps,
        nav_pushed_bps=given.nav_pushed_bps,
        relay=given.relay if given.relay in {"auto", "public", "private"} else "auto", **addresses,
    )  # fmt: skip


def _reference(own: Deployment, targets: Mapping[str, int], first: Mapping[str, int], mandate: Mandate) -> Extra:
    return own_vault(targets, first, nav_usd=own.portfolio.nav_usd, mandate=mandate)


def _safe(own: Deployment, targets: Mapping[str, int], first: Mapping[str, int], mandate: Mandate) -> Extra:
    del targets, mandate
    return own_safe(first, nav_usd=own.portfolio.nav_usd, access=own.vault.access)


def _fund(own: Deployment, targets: Mapping[str, int], first: Mapping[str, int], mandate: Mandate) -> Extra:
    del targets, mandate
    return own_fund(first, nav_usd=own.portfolio.nav_usd, tolerance=TOLERANCE)


def _lagoon(own: Deployment, targets: Mapping[str, int], first: Mapping[str, int], mandate: Mandate) -> Extra:
    del targets, mandate
    return own_lagoon(first, nav_usd=own.portfolio.nav_usd, valuer="keeper" if own.vault.sign_nav else VALUER)


def _owner(local: Deployment) -> Path:
    return local.path(OWNER_FILE)


def _role(net: Localnet, local: Deployment) -> None:
    """Let the owner give the keeper its role, by the verb, as the settings size it."""
    del net
    roles(local, owner=_owner(local))


def _signed(net: Localnet, local: Deployment) -> Done:
    """Let two of the three owners approve the proposal on its way, on the chain."""
    found = ProposalFile(local.journal.with_name(local.journal.name + ".proposal.json")).read()
    if found is None:
        return Done()
    for who in SIGNERS[: found.threshold]:
        net.deployer.call(who, str(local.vault.address), "approveHash(bytes32)", bytes.fromhex(found.safe_hash[2:]))
    return Done(f"{found.threshold} of {len(found.owners)} owners signed {found.plan.decision_id}", again=True)


def _asked(net: Localnet, local: Deployment) -> None:
    """Give the role, then let the holder ask for a hundredth of its shares back and half of that in again."""
    _role(net, local)
    vault, who = str(local.vault.investors), net.accounts["investor"].address
    cash = net.world.token(local.portfolio.assets[0])
    views = [Call(vault, "balanceOf(address)", "uint256", (who,)), Call(vault, "totalAssets()", "uint256")]
    (shares,), (worth,) = read(Rpc(net.node_url), views)
    back, into = int(str(shares)) * ASKED_BPS // 10_000, int(str(worth)) * ASKED_BPS // 20_000
    net.deployer.call("investor", vault, "requestRedeem(uint256,address,address)", back, who, who)
    net.deployer.call("investor", cash.address, "approve(address,uint256)", vault, into)
    net.deployer.call("investor", vault, "requestDeposit(uint256,address,address)", into, who, who)


def _settled(net: Localnet, local: Deployment) -> Done:
    """Value and settle what waits, each by whom it must be; what a verdict stops is told, and waits."""
    first = settle(local)
    if first["step"] == "nothing":
        return Done()
    for step in ("value", "settle"):
        told = settle(local)
        if told["step"] != step:
            continue
        try:
            if step == "value" and not local.vault.sign_nav:
                by_hand(net, told)
            else:
                settle(local, live=True, owner=_owner(local))
        except (ConfigError, ExecutionError) as error:
            return Done(f"requests not settled: {error}")
    return Done(f"requests settled: {first['words']}")


def by_hand(net: Localnet, told: Mapping[str, Any]) -> None:
    """Let the valuation manager push what `vault settle` told; ConfigError where its verdicts speak against it."""
    bad = [f"{v['check']}: {v['words']}" for v in told["verdicts"] if not v["ok"] and v["check"] != "nav_pushed"]
    if bad:
        raise ConfigError("; ".join(bad))
    [call] = told["calls"]
    net.deployer.send(VALUER, call["to"], bytes.fromhex(call["data"][2:]))


def only_ticks(name: str) -> bool:
    """Return whether an Enzyme fund trades at the venue called ``name``."""
    return venue(name).calls == TICKS_CALLS


ROLE = ("multisend", "roles", "unwrapper")
KINDS = {
    "reference": RehearsedKind("a reference vault", _reference),
    "roles": RehearsedKind(
        "a Safe whose owner gives the keeper its role, its allowances on", _safe, section=ROLE, begin=_role
    ),
    "proposal": RehearsedKind(
        "a Safe of three owners, of whom two sign each proposal within the hour", _safe, section=("multisend",),
        follow=_signed,
    ),
    "owner-key-can-take-all": RehearsedKind("a Safe that the keeper owns", _safe, section=("multisend",)),
    "enzyme": RehearsedKind(
        f"an Enzyme fund with a tolerance of {TOLERANCE:.0%} a week", _fund, section=("swapper",), venues=only_ticks
    ),
    "lagoon": RehearsedKind(
        "a Lagoon vault, of which a holder asks 1 % back and brings 0.5 % on the first day", _lagoon,
        section=(*ROLE, "investors"), begin=_asked, follow=_settled,
    ),
}  # fmt: skip
"""By ``[vault] kind``; a Safe by its ``access``."""

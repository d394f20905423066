"""The owner's changes: ``foredrift vault set-targets``, ``set-mandate``, ``pause``, ``resume``, ``retire-token``.

Each brings the vault on the chain to what the settings say, by its timelock: the first run announces a change, the next
one after the delay makes it. Everything is looked at first, so a run takes the next step, or says that none is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError, ExecutionError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from pipelines.deploy_section import DeploySection
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.onchain import keystore_signer
from pipelines.vault_setup.ownership import mandate_on_chain, owner_key
from pipelines.vault_setup.paper import in_bps
from pipelines.vault_setup.sending import BUSY, GUARDIAN, OWNER, ahead_of, only, send_due
from pipelines.wiring import rpc_of
from policy.execution.base import UnsignedTx
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.reference.creation import Creation, gas_limit, standing, would_stand
from policy.execution.vaults.reference.deployment import VaultSetup, oracle_code
from policy.execution.vaults.reference.state import VaultState
from policy.execution.vaults.reference.timelock import (
    RESUME,
    SET_TOKENS,
    TimelockedCall,
    announced,
    sources_without,
    to_mandate,
    to_targets,
    without,
)

Shown = dict[str, Any]
Wanted = Callable[[VaultState], Sequence[TimelockedCall]]
DUST_E18 = 10**18
"""USD x 1e18 below which a token may leave the vault (contracts/book.vy, DUST_USD)."""


def set_targets(deployment: VaultSettings, given: DeploySection, **how: Any) -> Shown:
    """Bring the vault's targets to those of [portfolio]."""

    def wanted(s: VaultState) -> Sequence[TimelockedCall]:
        names = [t.symbol for t in s.book.tokens]
        bps = in_bps(list(deployment.portfolio.weights.values()))
        if len(bps) != len(names):
            raise ConfigError(
                f"the vault holds {', '.join(names)}; [portfolio] assets must list one asset per token, in that order"
            )
        return to_targets(s.book.targets_bps, bps, names)

    return bring(deployment, given, wanted, **how)


def set_mandate(deployment: VaultSettings, given: DeploySection, **how: Any) -> Shown:
    """Bring the limits and loss budgets that the vault enforces to those of [mandate]."""
    return bring(deployment, given, lambda s: to_mandate(s.mandate, mandate_on_chain(deployment)), **how)


def resume(deployment: VaultSettings, given: DeploySection, **how: Any) -> Shown:
    """Open a paused vault again."""
    words = TimelockedCall("resume: trading, deposits and exits at oracle prices open again", calldata(RESUME))
    return bring(deployment, given, lambda s: [words] if s.paused else [], **how)


def bring(
    deployment: VaultSettings,
    given: DeploySection,
    wanted: Wanted,
    *,
    live: bool = False,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:
    """Return the changes that are ``wanted`` of the vault as it stands, each one step further where ``live``.

    {vault, changes: [{words, state, ready_at, did, tx}]}; state is new, waiting, ready or lapsed as it was found, and
    did says what was sent: announced, made, or nothing. Raises ConfigError where the key is not the owner's.
    """
    rpc, vault = reference_vault(deployment)
    plan = _told(rpc, vault, wanted(vault.state()))
    if on_plan is not None:
        on_plan(plan)
    if not live:
        return plan
    signer = owner_key(deployment, given)
    is_owner(rpc, vault, signer.address)
    ahead = ahead_of(deployment, rpc)
    try:
        with ahead.held():
            ahead.settle(only(signer))
            changes = list(wanted(vault.state()))
            done = _told(rpc, vault, changes)
            for row, place in zip(done["changes"], announced(rpc, vault.address, changes), strict=True):
                tx = place.next(vault.address, ahead.chain_id)
                if tx is None:
                    continue
                made = place.state == "ready"
                receipt = ahead.send(f"{'make' if made else 'announce'} {place.change.words}", tx, signer)
                row["did"], row["tx"] = "made" if made else "announced", receipt.tx_hash
            _refresh(rpc, vault, changes, done["changes"])
    except BlockingIOError:
        raise ExecutionError(BUSY.format(who=OWNER)) from None
    return done


def pause(
    deployment: VaultSettings,
    given: DeploySection,
    *,
    guardian: bool = False,
    live: bool = False,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:
    """Stop trading, deposits and exits at oracle prices at once, by the owner's key or the ``guardian``'s."""
    rpc, vault = reference_vault(deployment)
    paused = vault.state().pause
    row = {"words": "pause: the in-kind exit stays open", "state": paused or "open", "ready_at": None, "did": "nothing",
           "tx": None}  # fmt: skip
    plan: Shown = {"vault": vault.address, "changes": [] if paused else [row]}
    if on_plan is not None:
        on_plan(plan)
    if not live or paused:
        return plan
    who, file = (GUARDIAN, given.guardian) if guardian else (OWNER, given.owner)
    if file is None:
        raise ConfigError(f"set [deploy] {who} to the keystore that pauses")
    signer = keystore_signer(deployment.path(file))

    def due() -> UnsignedTx | None:
        return None if vault.state().paused else vault.pause()

    receipt = send_due(ahead_of(deployment, rpc, who), signer, f"pause {vault.address}", due, who)
    if receipt is not None:
        row["did"], row["tx"] = "made", receipt.tx_hash
    return plan


def retire(deployment: VaultSettings, given: DeploySection, token: str, **how: Any) -> Shown:
    """Take ``token`` out of the vault: its target to 0, then (when it is sold) an oracle without it, then the set.

    The accounting asset stays. Each run takes the step that is due; ``left_usd`` says what is still to be sold.
    """
    rpc, vault = reference_vault(deployment)
    state = vault.state()
    i = _index(deployment, state, token)
    left = state.book.value(i, state.book.holdings[i])
    if state.book.targets_bps[i]:
        names = [t.symbol for t in state.book.tokens]
        targets = without(state.book.targets_bps, i)
        return bring(deployment, given, lambda s: to_targets(s.book.targets_bps, targets, names), **how) | {
            "left_usd": left / 10**18
        }
    if left >= DUST_E18:
        return {"vault": vault.address, "changes": [], "left_usd": left / 10**18}
    oracle = _oracle(state, i)
    if how.get("live") and not standing(rpc, [oracle])[0]:
        _make(deployment, given, rpc, oracle)
    kept = [j for j in range(len(state.book.tokens)) if j != i]
    tokens = [state.book.tokens[j] for j in kept]
    change = TimelockedCall(
        f"retire {state.book.tokens[i].symbol}: tokens {', '.join(t.symbol for t in tokens)}, oracle {oracle.address}",
        calldata(
            SET_TOKENS, [t.address for t in tokens], [t.decimals for t in tokens],
            [state.book.targets_bps[j] for j in kept], oracle.address,
        ),
    )  # fmt: skip
    return bring(deployment, given, lambda _: [change], **how) | {"left_usd": left / 10**18}


def _oracle(state: VaultState, i: int) -> Creation:
    """Return the oracle of the tokens that stay."""
    layout = state.layout
    setup = VaultSetup(
        sources_without(layout.sources, i), "", "", "", (), sequencer=layout.sequencer or "0x" + "0" * 40,
        sequencer_grace_s=layout.sequencer_grace_s,
    )  # fmt: skip
    return Creation("an oracle of the tokens that stay", "foredrift_oracle", oracle_code(setup))


def _make(deployment: VaultSettings, given: DeploySection, rpc: Rpc, creation: Creation) -> None:
    signer, ahead = owner_key(deployment, given), ahead_of(deployment, rpc)
    try:
        with ahead.held():
            ahead.settle(only(signer))
            if standing(rpc, [creation])[0]:
                return
            said = would_stand(rpc, creation, signer.address)
            if said:
                raise ExecutionError(f"{creation.words} would be refused: {said}; nothing was signed")
            gas = gas_limit(rpc, creation, signer.address)
            ahead.send(creation.words, creation.transaction(ahead.chain_id), signer, gas)
    except BlockingIOError:
        raise ExecutionError(BUSY.format(who=OWNER)) from None


def _index(deployment: VaultSettings, state: VaultState, token: str) -> int:
    names = [t.symbol for t in state.book.tokens]
    assets = list(deployment.portfolio.assets) if len(deployment.portfolio.assets) == len(names) else names
    found = [i for i, pair in enumerate(zip(names, assets, strict=True)) if token.casefold() in map(str.casefold, pair)]
    if len(found) != 1:
        raise ConfigError(f"the vault holds {', '.join(names)}; {token!r} is none of them")
    if found[0] == 0:
        raise ConfigError(
            f"{names[0]} is the accounting asset: shares are counted in it, it stays for the vault's life"
        )
    if len(names) == 2:
        raise ConfigError("a vault holds two tokens at least; the last but one cannot be retired")
    return found[0]


def reference_vault(deployment: VaultSettings) -> tuple[Rpc, ReferenceVault]:
    """Return the node and the configured vault; ConfigError where it is no reference vault on a chain."""
    if deployment.vault.kind != "reference" or deployment.vault.address is None:
        raise ConfigError('this is for a reference vault: [vault] kind = "reference" and its address (vault deploy)')
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    return rpc, ReferenceVault(rpc, deployment.vault.address)


def is_owner(rpc: Rpc, vault: ReferenceVault, address: str) -> None:
    """Raise ConfigError where ``address`` is not the vault's owner."""
    owner = to_checksum_address(str(read(rpc, [Call(vault.address, "owner()", "address")])[0][0]))
    if owner != address:
        raise ConfigError(f"the vault's owner is {owner}, [deploy] owner is the key of {address}: nothing was signed")


def _told(rpc: Rpc, vault: ReferenceVault, changes: Sequence[TimelockedCall]) -> Shown:
    rows = [
        {"words": a.change.words, "state": a.state, "ready_at": _moment(a.ready_at), "did": "nothing", "tx": None}
        for a in announced(rpc, vault.address, changes)
    ]
    return {"vault": vault.address, "changes": rows}


def _refresh(rpc: Rpc, vault: ReferenceVault, changes: Sequence[TimelockedCall], rows: Sequence[Shown]) -> None:
    """Say when what was announced just now is ready."""
    for place, row in zip(announced(rpc, vault.address, changes), rows, strict=True):
        if row["did"] == "announced":
            row["ready_at"] = _moment(place.ready_at)


def _moment(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None

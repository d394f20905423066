"""``foredrift vault roles``: the keeper's role in a Safe, shown, written as a Safe transaction, or installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import Call, calldata, read
from lake.units import BPS
from pipelines.deployments import Deployment
from pipelines.vault_setup.onchain import keeper_of, keystore_signer
from pipelines.vault_setup.safe import roles_safe_of
from pipelines.vault_setup.sending import ahead_of, send_due
from pipelines.wiring import rpc_of
from policy.execution.base import UnsignedTx
from policy.execution.vaults.lagoon.proof import lagoon_thefts
from policy.execution.vaults.safe.adapter import DELEGATECALL, EXEC, ZERO, packed, safe_tx
from policy.execution.vaults.safe.builder_file import builder_file
from policy.execution.vaults.safe.install import MULTISEND, UNWRAPPER, OwnerCall, missing_calls
from policy.execution.vaults.safe.proof import Theft, state_faults, thefts, thefts_that_work
from policy.execution.vaults.safe.roles import RolesSafe, exposure_of

Shown = dict[str, Any]


def roles(
    deployment: Deployment,
    *,
    owner: Path | None = None,
    out: Path | None = None,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:
    """Show what the keeper may do and what the owners still have to sign for it; install it with ``owner``'s keystore.

    ``out``: write the calls as a batch for Safe{Wallet}'s transaction builder. Only what the chain lacks is asked for,
    so it may be repeated. ``on_plan`` is called with the plan before anything is signed. Raises ConfigError where the
    settings do not fit the Safe, or the owner alone is not enough.
    """
    vault = scoped(deployment)
    keeper, unwrapper = to_checksum_address(keeper_of(deployment)), unwrapper_of(deployment)
    calls = missing_calls(vault, keeper, unwrapper)
    shown = _shown(deployment, vault, keeper, calls)
    if out is not None and calls:
        made = builder_file(
            deployment.chain.id, vault.spec.address, "Foredrift: the keeper's role",
            [(c.to, c.data) for c in calls], datetime.now(UTC),
        )  # fmt: skip
        out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        shown["file"] = str(out)
    if on_plan is not None:
        on_plan(shown)
    if owner is not None and calls:
        shown["transaction"] = by_owner(
            deployment, vault, owner, "the keeper's role", lambda: missing_calls(vault, keeper, unwrapper)
        )
        left = missing_calls(vault, keeper, unwrapper)
        shown["calls"] = [_call(c) for c in left]
    return shown


def scoped(deployment: Deployment) -> RolesSafe:
    """Return the configured Safe's adapter, allowances included: ``[vault] allowance_bps`` of NAV a token and day."""
    given = deployment.vault
    if given.kind != "lagoon" and (given.kind != "safe" or given.access != "roles"):
        raise ConfigError(
            '[vault] kind = "lagoon", and "safe" with access = "roles", have a role; the configured vault has none'
        )
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    vault = roles_safe_of(deployment, rpc, to_checksum_address(keeper_of(deployment)))
    return _with_allowances(vault, deployment.vault.allowance_bps)


def _with_allowances(vault: RolesSafe, allowance_bps: int) -> RolesSafe:
    book = vault.book()
    bad = [t.symbol for t, price in zip(book.tokens, book.prices_e8, strict=True) if price <= 0]
    if bad:
        raise ConfigError(f"no price of {', '.join(bad)}: allowances are amounts of tokens; check [[sources.feeds]]")
    total = book.total()
    if not total:
        raise ConfigError(f"the Safe {vault.spec.address} holds none of its tokens: fund it, then size the allowances")
    usd = total * allowance_bps // BPS
    refill = {t.address: usd * 10**t.decimals // (book.prices_e8[i] * 10**10) for i, t in enumerate(book.tokens)}
    return RolesSafe(vault.rpc, vault.spec, vault.modifier, replace(vault.scope, refill=refill))


def unwrapper_of(deployment: Deployment) -> str:
    """Return the contract that takes batches apart for Roles: as set, else at its usual address."""
    return str(to_checksum_address(deployment.vault.unwrapper or UNWRAPPER))


def role_faults(deployment: Deployment) -> tuple[list[str], int]:
    """Return what is wrong with the keeper's role on the chain, in words, and how many thefts were tried."""
    vault, keeper = scoped(deployment), to_checksum_address(keeper_of(deployment))
    found = state_faults(vault, keeper, unwrapper_of(deployment))
    more = _of_investors(deployment, vault, keeper)
    worked = thefts_that_work(vault, keeper, more)
    found += [w if w.startswith("nothing is proven") else f"the keeper CAN: {w}" for w in worked]
    return found, len(thefts(vault, keeper)) + len(more)


def _of_investors(deployment: Deployment, vault: RolesSafe, keeper: str) -> list[Theft]:
    """Return what a thief would try with a Lagoon vault; none where the Safe has no holders of shares."""
    if deployment.vault.kind != "lagoon":
        return []
    return lagoon_thefts(vault, str(deployment.vault.investors), keeper, values=deployment.vault.sign_nav)


def _shown(deployment: Deployment, vault: RolesSafe, keeper: str, calls: list[OwnerCall]) -> Shown:
    names = {t.address: t for t in vault.spec.tokens}
    return {
        "safe": vault.spec.address, "roles": vault.modifier, "keeper": keeper, "chain_id": deployment.chain.id,
        "permissions": [
            {"target": p.target, "function": p.signature.split("(", 1)[0], "words": p.words,
             "conditions": len(p.conditions)}
            for p in vault.scope.permissions()
        ],
        "allowances": [
            {"token": names[t].symbol, "address": t, "amount": str(amount), "period_s": vault.scope.period_s}
            for t, amount in vault.scope.refill.items()
        ],
        "calls": [_call(c) for c in calls], "file": None, "transaction": None,
        "stolen_key": exposure_of(vault).words(),
    }  # fmt: skip


def _call(call: OwnerCall) -> dict[str, str]:
    return {"to": call.to, "words": call.words, "data": "0x" + call.data.hex()}


def by_owner(
    deployment: Deployment, vault: RolesSafe, owner: Path, words: str, due: Callable[[], Sequence[OwnerCall]]
) -> str | None:
    """Let the Safe make the calls that are ``due`` in one batch, signed by its only needed owner.

    Return the hash of what landed; ``due`` is asked once what an earlier run sent is known. None where nothing is due
    and nothing was on its way.
    """
    signer = keystore_signer(owner)
    safe = vault.spec.address
    views = [Call(safe, "getThreshold()", "uint256"), Call(safe, "isOwner(address)", "bool", (signer.address,))]
    (needed,), (owns,) = read(vault.rpc, views)
    if not owns:
        raise ConfigError(f"{signer.address} of {owner.name} is no owner of the Safe {safe}")
    if needed != 1:
        raise ConfigError(
            f"the Safe needs {needed} owners' signatures: write a file with --out FILE and import it into "
            "Safe{Wallet}'s transaction builder, where the owners sign it"
        )

    def batch() -> UnsignedTx | None:
        calls = due()
        if not calls:
            return None
        ((nonce,),) = read(vault.rpc, [Call(safe, "nonce()", "uint256")])
        data = calldata(MULTISEND, packed([(c.to, c.data) for c in calls]))
        typed = safe_tx(safe, vault.spec.multisend, deployment.chain.id, cast("int", nonce), data, ZERO)
        args = (vault.spec.multisend, 0, data, DELEGATECALL, 0, 0, 0, ZERO, ZERO, signer.sign_typed(typed))
        return UnsignedTx(deployment.chain.id, safe, calldata(EXEC, *args))

    receipt = send_due(ahead_of(deployment, vault.rpc), signer, words, batch)
    return None if receipt is None else receipt.tx_hash

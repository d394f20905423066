"""``foredrift vault settle``: requests that wait in a Lagoon vault, the valuation they are settled at, what to sign."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from pipelines.deployments import Deployment
from pipelines.reports.check_words import said
from pipelines.settlements.reconcile import journal_of
from pipelines.stages.vault_roles import by_owner
from pipelines.vault_setup.lagoon import lagoon_of, nav_limits
from pipelines.vault_setup.onchain import keeper_of, signer_of
from pipelines.vault_setup.sending import KEEPER, ahead_of, send_due
from pipelines.wiring import rpc_of
from policy.execution.base import UnsignedTx
from policy.execution.submission.signer import KeystoreSigner
from policy.execution.vaults.lagoon.adapter import LagoonVault
from policy.execution.vaults.lagoon.nav import Valuation, proposed
from policy.execution.vaults.safe.builder_file import builder_file
from policy.execution.vaults.safe.install import OwnerCall

Shown = dict[str, Any]
STEPS = {
    "value": "the valuation manager pushes the valuation",
    "settle": "the Safe's owners settle with the pushed valuation",
    "nothing": "no request waits",
}


def settle(
    deployment: Deployment,
    *,
    live: bool = False,
    owner: Path | None = None,
    out: Path | None = None,
    on_plan: Callable[[Shown], None] | None = None,
) -> Shown:
    """Show the requests, the proposed valuation with its verdicts, and the next step; take it with ``live``.

    A valuation is pushed only by ``live`` where ``[vault] sign_nav`` is set and the keeper is the valuation manager; a
    settlement is signed by ``owner``'s keystore, or written to ``out`` for Safe{Wallet}. Raises ConfigError where
    neither is given or a verdict stops the step.
    """
    vault = _vault(deployment)
    made = proposed(vault, nav_limits(deployment))
    shown = _shown(deployment, vault, made)
    if on_plan is not None:
        on_plan(shown)
    if out is not None and made.step == "settle":
        _require_good(made)
        rows = [(c.to, c.data) for c in made.calls]
        file = builder_file(deployment.chain.id, vault.spec.address, "Foredrift: settle requests", rows,
                            datetime.now(UTC))  # fmt: skip
        out.write_text(json.dumps(file, indent=1) + "\n", encoding="utf-8")
        shown["file"] = str(out)
    if live and made.step != "nothing":
        _require_good(made)
        shown["transaction"] = (
            _push(deployment, vault, made) if made.step == "value" else _settle(deployment, vault, owner)
        )
    return shown


def _vault(deployment: Deployment) -> LagoonVault:
    if deployment.vault.kind != "lagoon":
        raise ConfigError('[vault] kind = "lagoon" has requests to settle; the configured vault has none')
    rpc = rpc_of(deployment.chain)
    rpc.expect_chain(deployment.chain.id)
    return lagoon_of(deployment, rpc, keeper_of(deployment))


def _require_good(made: Valuation) -> None:
    if made.step == "value" and all(v.ok or v.check == "nav_pushed" for v in made.verdicts):
        return  # a wrong valuation that was pushed is what a right one replaces
    if not made.good:
        raise ConfigError("; ".join(said({"check": v.check, "reason": v.reason}) for v in made.verdicts if not v.ok))


def _due(deployment: Deployment, vault: LagoonVault, step: str) -> Sequence[OwnerCall]:
    """Return the calls of ``step`` as they are due now; none where it is taken already."""
    made = proposed(vault, nav_limits(deployment))
    if made.step != step:
        return ()
    _require_good(made)
    return made.calls


def _push(deployment: Deployment, vault: LagoonVault, made: Valuation) -> str | None:
    """Push the valuation with the keeper's key, once, and return the transaction's hash."""
    if not deployment.vault.sign_nav:
        raise ConfigError(
            "valuations are not signed here: let the valuation manager send what is printed, or set [vault] sign_nav = "
            f"true where the keeper is the valuation manager ({made.requests.valuer})"
        )
    signer = signer_of(deployment)
    if signer.address != made.requests.valuer:
        raise ConfigError(f"the keeper {signer.address} is not the valuation manager {made.requests.valuer}")
    if not isinstance(signer, KeystoreSigner):
        raise ConfigError("a valuation is signed with [vault] keystore; an external signer is asked for plans only")

    def due() -> UnsignedTx | None:
        calls = _due(deployment, vault, "value")
        return UnsignedTx(deployment.chain.id, calls[0].to, calls[0].data) if calls else None

    journal = journal_of(deployment)
    with journal.lease():  # the keeper's next account number may be a plan's
        flight = journal.in_flight()
        if flight is not None:
            raise ConfigError(
                f"plan {flight.plan.decision_id} is in flight with the same key; foredrift rebalance looks it up first"
            )
        ahead = ahead_of(deployment, vault.rpc, KEEPER)
        receipt = send_due(ahead, signer, "push the valuation", due, KEEPER)
    return None if receipt is None else receipt.tx_hash


def _settle(deployment: Deployment, vault: LagoonVault, owner: Path | None) -> str | None:
    if owner is None:
        raise ConfigError(
            "the Safe's owners sign a settlement: --owner KEYSTORE where one signature is enough, else --out FILE"
        )
    return by_owner(deployment, vault, owner, "settle requests", lambda: _due(deployment, vault, "settle"))


def _shown(deployment: Deployment, vault: LagoonVault, made: Valuation) -> Shown:
    asked, cash = made.requests, vault.spec.tokens[0]
    unit = 10**cash.decimals
    leaving = asked.leaving(made.nav)
    words = f"{asked.coming / unit:,.6g} {cash.symbol} wait to come, {leaving / unit:,.6g} to leave"
    return {
        "vault": vault.investors, "safe": vault.spec.address, "chain_id": deployment.chain.id, "asset": cash.symbol,
        "decimals": cash.decimals, "nav": str(made.nav), "valued_at": str(asked.total_assets),
        "pushed": None if asked.pushed is None else str(asked.pushed), "coming": str(asked.coming),
        "leaving": str(leaving), "leaving_shares": str(asked.leaving_shares), "supply": str(asked.supply),
        "step": made.step, "next": STEPS[made.step], "words": words, "good": made.good, "valuer": asked.valuer,
        "verdicts": [{"check": v.check, "ok": v.ok, "words": v.reason} for v in made.verdicts],
        "calls": [{"to": c.to, "words": c.words, "data": "0x" + c.data.hex()} for c in made.calls],
        "file": None, "transaction": None,
    }  # fmt: skip

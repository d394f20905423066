"""``foredrift rebalance --propose``: a plan for a Safe's owners to sign, and what became of the one before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from pipelines.reports.decision import as_shown, rules_off_chain
from pipelines.settings import safe_api_key
from pipelines.settlements.reconcile import reconcile
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.abstaining import recorded
from pipelines.vault_setup.context import open_context, present
from pipelines.vault_setup.decider import decider
from pipelines.vault_setup.onchain import signer_of
from pipelines.wiring import lake_of
from policy.execution.proposing import ProposalFile, propose
from policy.execution.records.audit import Audit
from policy.execution.vaults.safe.builder_file import builder_file
from policy.execution.vaults.safe.proposal import Proposal, ProposedSafe
from policy.execution.vaults.safe.service import SafeService


def run_proposal(
    deployment: VaultSettings,
    *,
    live: bool,
    out: Path | None = None,
    on_plan: Callable[[Mapping[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Look up the proposal on its way or make a new one; ``live`` sends what enough owners have signed.

    ``out``: where the batch for Safe{Wallet}'s transaction builder is written (beside the journal where not given).
    Raises ConfigError where the vault is no Safe whose owners sign.
    """
    if deployment.vault.kind != "safe" or deployment.vault.access != "proposal":
        raise ConfigError('--propose needs [vault] kind = "safe" with access = "proposal" (docs/vaults.md)')
    at, lake = present(deployment), lake_of(deployment)
    record = Audit(deployment.audit)
    with recorded(deployment, record, at):
        choice = decider(deployment, lake, at)
    with open_context(deployment, at, choice, live=live) as ctx:
        vault = ctx.vault
        assert isinstance(vault, ProposedSafe)
        seen, post = vault.snapshot(), _Post(deployment, vault, out)
        store = ProposalFile(deployment.journal.with_name(deployment.journal.name + ".proposal.json"))
        report = propose(replace(ctx, audit=record), store, post.collect, post.lay)
        shown = as_shown(report, choice.note, seen) | {"rules_off_chain": rules_off_chain(vault.describe())}
    reconcile(deployment, lake, record)
    if on_plan is not None:
        on_plan(shown)
    return shown


class _Post:
    """Lays proposals before the owners: as a file for Safe{Wallet}, and at the transaction service where one is set."""

    def __init__(self, deployment: VaultSettings, vault: ProposedSafe, out: Path | None) -> None:
        url = deployment.vault.safe_service
        self.deployment, self.vault = deployment, vault
        self.service = None if url is None else SafeService(url.get_secret_value(), safe_api_key())
        self.out = out or deployment.journal.with_name(deployment.journal.name + ".safe-batch.json")

    def collect(self, proposal: Proposal) -> Mapping[str, bytes]:
        """Return the signatures the service holds; what was approved on the chain needs none."""
        return {} if self.service is None else self.service.confirmations(proposal)

    def lay(self, proposal: Proposal) -> str:
        """Write the batch, hand it to the service, and say where the owners find it."""
        plan = proposal.plan
        made = builder_file(
            plan.chain_id, self.vault.spec.address, f"Foredrift plan {plan.nonce}", self.vault.batch_of(plan),
            present(self.deployment),
        )  # fmt: skip
        self.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        said = f"to be signed as {proposal.safe_hash} at nonce {proposal.safe_nonce}; for Safe{{Wallet}}: {self.out}"
        if self.service is None:
            return said
        signer = signer_of(self.deployment)
        signature = signer.sign_typed(self.vault.typed(plan, proposal.safe_nonce))
        sender, data = to_checksum_address(signer.address), self.vault.data_of(plan)
        self.service.propose(proposal, self.vault.spec.multisend, data, sender, signature)
        return f"{said}; laid before the owners at the transaction service"

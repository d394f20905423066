"""``foredrift vault``: what the configured vault enforces on chain."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lake.errors import ConfigError
from pipelines.deployments import Deployment
from policy.execution.base import Capabilities

RULES = {
    "atomic_legs": "a plan is executed whole or not at all",
    "onchain_price_bound": "every leg is held to the oracle's price",
    "loss_budget": "losses are bounded by a budget or an allowance",
    "progress_rule": "the distance to the targets may not grow",
    "plan_nonce": "a plan is executed at most once",
    "deadline": "a plan is never executed late",
    "async_exit": "investors leave by a request that is settled later",
    "in_kind_exit": "investors may leave with their share of every token",
    "pausable": "trading can be stopped",
    "permissioned": "only listed holders may take part",
    "bridges": "cash may leave for the owner's other vaults, over the owner's routes alone",
}
"""What a vault may enforce on chain, by the field of its capabilities, in words."""
ALL = "whoever holds the key takes everything: no rule on the chain bounds it"


def describe(deployment: Deployment) -> dict[str, Any]:
    """Return what the vault of ``deployment`` enforces on chain: {kind, address, rules: [{rule, words, on_chain}]}.

    ``stolen_key``: in words, what a thief of the keeper's key can take. Raises ConfigError where the settings do not
    fit the vault.
    """
    return {"address": deployment.vault.address, **stated_by(_capabilities(deployment))}


def stated_by(found: Capabilities) -> dict[str, Any]:
    """Return capabilities as shown: kind, rules in words, exposure."""
    rules = [{"rule": rule, "words": words, "on_chain": getattr(found, rule)} for rule, words in RULES.items()]
    bound = found.stolen_key
    return {
        "kind": found.kind, "rules": rules, "stolen_key": ALL if bound is None else bound.words(),
        "exposure_ppb": None if bound is None else asdict(bound),
    }  # fmt: skip


def _capabilities(deployment: Deployment) -> Capabilities:
    if deployment.vault.kind != "simulated":
        from pipelines.vault_setup.onchain import dry_vault

        return dry_vault(deployment).describe()
    from pipelines.vault_setup.paper import capabilities

    return capabilities(deployment)


def rates(deployment: Deployment, accept: str | None = None) -> dict[str, Any]:
    """Return the yield-bearing tokens' rates, yields and verdicts; ``accept`` believes one after a fall or jump."""
    from pipelines.vault_setup.onchain import dry_vault
    from pipelines.vault_setup.rates import shown
    from policy.execution.vaults.safe.adapter import SafeAccount

    vault = None if deployment.vault.kind == "simulated" else dry_vault(deployment)
    if not isinstance(vault, SafeAccount):
        raise ConfigError("yield-bearing tokens are held by a Safe: rows of [[sources.pools]] with venue erc4626")
    return {"rates": shown(deployment, vault, accept)}

"""A decision that is not taken for lack of data: kept in the audit record like any other, once an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from lake.errors import NotEnoughData
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.paper import address
from policy.execution.checks.verdicts import refused
from policy.execution.context import Limits
from policy.execution.observation import decision_id
from policy.execution.records.audit import Audit
from policy.execution.records.codec import verdicts_json

ABSTAIN = "abstain"
"""The action of a refusal in which nothing could be decided."""


@contextmanager
def recorded(deployment: VaultSettings, record: Audit, at: datetime) -> Iterator[None]:
    """Keep a NotEnoughData that is raised inside in ``record``, with its reason, and raise it on.

    The record names the decision that was due: a later one of the same epoch, on data that came in time, follows it.
    """
    try:
        yield
    except NotEnoughData as error:
        reason = "; ".join([str(error), *getattr(error, "__notes__", [])])
        _keep(deployment, record, at, reason)
        raise


def _keep(deployment: VaultSettings, record: Audit, at: datetime, reason: str) -> None:
    paper = deployment.vault.kind == "simulated"
    vault = address(f"vault {deployment.portfolio.name}") if paper else str(deployment.vault.address)
    policy = deployment.policy.kind
    name = decision_id(vault, policy, int(at.timestamp()) // Limits().epoch_s)
    if record.has("refusal", decision_id=name, action=ABSTAIN):
        return
    body = {
        "decision_id": name,
        "ts": at.isoformat(),
        "vault": vault,
        "policy": policy,
        "live": False,  # nothing was there to sign
        "action": ABSTAIN,
        "outcome_so_far": "refused",
        "why": reason,
        "verdicts": verdicts_json([refused("data_missing", reason)]),
        "snapshot": None,
        "data": [],
    }
    record.append("refusal", body)

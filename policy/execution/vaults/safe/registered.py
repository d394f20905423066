"""A Safe whose plans the register numbers, times and records: what Safes not signed by their keeper have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from lake.evm import calldata
from policy.execution.base import Plan, Receipt
from policy.execution.vaults.reference.adapter import plan_hash
from policy.execution.vaults.safe.adapter import SafeAccount, calls_of, packed
from policy.execution.vaults.safe.register import LAND, landed_topics, landings, next_nonce, register_address


class RegisteredSafe(SafeAccount):
    """A Safe whose batches begin with the register: a plan lands once, in order, in time and on record."""

    def _multisend(self, plan: Plan) -> bytes:
        land = calldata(LAND, plan.nonce, plan.deadline, self._hash(plan))
        return calldata("multiSend(bytes)", packed([(register_address(), land), *calls_of(plan)]))

    def _hash(self, plan: Plan) -> bytes:
        return plan_hash(plan)

    def _nonce(self, block_hash: str) -> int:
        self._require_version(block_hash)
        return next_nonce(self.rpc, self.spec.address, block_hash)

    def _done(self, since: int, until: int | str) -> list[tuple[int, str, str]]:
        return landings(self.rpc, self.spec.address, since, until)

    def _recorded(self, receipt: Receipt, plan: Plan) -> bool:
        wanted = landed_topics(self.spec.address, plan.nonce, plan.plan_hash)
        mine = register_address().lower()
        return any(str(log["address"]).lower() == mine and _topics(log) == wanted for log in receipt.logs)


def _topics(log: Mapping[str, object]) -> list[str]:
    rows = cast("Sequence[object]", log["topics"])
    return [t.lower() if isinstance(t, str) else "0x" + bytes(t).hex() for t in rows]  # type: ignore[call-overload]

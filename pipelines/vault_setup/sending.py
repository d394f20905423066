"""Transactions that a person's key signs, all by one way: written before they are sent, looked up, never sent twice."""

from __future__ import annotations

import time
from collections.abc import Callable

from lake.errors import ExecutionError
from lake.private import STATE
from lake.rpc import Rpc
from lake.universe import chain
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.onchain import LOCAL_CHAINS, POLL_S
from policy.execution.base import Receipt, UnsignedTx
from policy.execution.records.hashlog import HashLog
from policy.execution.submission.gas import fee_rules
from policy.execution.submission.node import JsonNode
from policy.execution.submission.signer import Signer
from policy.execution.submission.written_ahead import WrittenAhead

OWNER, GUARDIAN, KEEPER = "owner", "guardian", "keeper"
"""Whose log: a guardian's pause never waits for what an owner has on its way."""
BUSY = "another process sends for this {who} now; wait for it, then run it again"


def ahead_of(deployment: VaultSettings, rpc: Rpc, who: str = OWNER) -> WrittenAhead:
    """Return what the transactions of ``who`` are sent by: one log a role, chain and project, under .foredrift."""
    log = HashLog(deployment.path(f"{STATE}/{who}-{deployment.chain.id}.log"))
    return WrittenAhead(log, JsonNode(rpc), fee_rules(chain(deployment.chain.id)), _tick(deployment, rpc))


def send_due(
    ahead: WrittenAhead, signer: Signer, words: str, due: Callable[[], UnsignedTx | None], who: str = OWNER
) -> Receipt | None:
    """Look up what is on its way, then send what is ``due`` by then; return the receipt of ``words``.

    ``due`` is asked after the lookup, so what an interrupted run brought about is not sent anew: it returns None, and
    so does this where these ``words`` were not on their way either. Raises ExecutionError where another process sends
    for ``who``, and like :meth:`WrittenAhead.settle` and ``send``.
    """
    try:
        with ahead.held():
            before = ahead.open()
            landed = ahead.settle(only(signer))
            tx = due()
            if tx is not None:
                return ahead.send(words, tx, signer)
            return landed if before is not None and before.words == words else None
    except BlockingIOError:
        raise ExecutionError(BUSY.format(who=who)) from None


def only(signer: Signer) -> Callable[[str], Signer | None]:
    """Return what raises bids of ``signer``'s own transactions; another key's are offered as they are."""
    return lambda sender: signer if sender == signer.address else None


def _tick(deployment: VaultSettings, rpc: Rpc) -> Callable[[], None]:
    def wait() -> None:
        if deployment.chain.id in LOCAL_CHAINS:
            rpc.call("evm_mine")
        else:
            time.sleep(POLL_S)

    return wait

"""One transaction of a person's own key, sent and waited for: what an owner does once, not a keeper hourly."""

from __future__ import annotations

import time

from lake.errors import ExecutionError
from lake.rpc import Rpc, quantity
from lake.units import BPS
from lake.universe import chain
from pipelines.vault_settings import VaultSettings
from policy.execution.base import Receipt, UnsignedTx
from policy.execution.submission.channels import PublicChannel
from policy.execution.submission.gas import fee_rules, first_bid
from policy.execution.submission.node import JsonNode
from policy.execution.submission.signer import KeystoreSigner, TxRequest

LOCAL_CHAIN = 31_337
MARGIN_BPS = 12_500
"""Gas limit over the estimate."""
PATIENCE_S = 300.0


def send(deployment: VaultSettings, rpc: Rpc, signer: KeystoreSigner, tx: UnsignedTx) -> Receipt:
    """Sign ``tx``, send it once and return its receipt; ExecutionError says what became of it where it did not land.

    Nothing is resent: where no receipt comes, the hash is named, and the verb, which looks at the chain before it acts,
    may be run again.
    """
    node = JsonNode(rpc)
    call = {"from": signer.address, "to": tx.to, "data": "0x" + tx.data.hex()}
    gas = quantity(rpc.call("eth_estimateGas", [call])) * MARGIN_BPS // BPS
    head = node.head()
    bid = first_bid(head, node.fee_history(20), fee_rules(chain(deployment.chain.id)))
    if bid is None:
        raise ExecutionError(f"the base fee of {head.base_fee_wei} wei is above the ceiling; run it again later")
    nonce = node.account_nonce(signer.address)
    signed = signer.sign(TxRequest(tx.chain_id, tx.to, tx.data, 0, nonce, gas, bid.max_fee_wei, bid.tip_wei))
    reply = PublicChannel(rpc).send(signed.raw, signed.tx_hash, head.number + 1, head.number + 50)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if deployment.chain.id == LOCAL_CHAIN:
            rpc.call("evm_mine")
        receipt = node.receipt(signed.tx_hash)
        if receipt is not None:
            if receipt.status != 1:
                raise ExecutionError(f"{signed.tx_hash} was mined in block {receipt.block_number} and reverted")
            return receipt
        if reply.taken is False:
            break
        time.sleep(1.0)
    raise ExecutionError(
        f"no receipt of {signed.tx_hash} yet (the node said: {reply.text or 'nothing'}); look it up, then run it again"
    )

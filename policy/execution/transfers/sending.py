"""One leg's transaction: signed once, journalled, handed over, looked up, bumped at the same account nonce.

The same signed bytes may be handed over again and again, they land at most once. A second departure is never signed.
"""

from __future__ import annotations

from policy.execution.base import Receipt, UnsignedTx
from policy.execution.bridges.finality import confirmed_block, final_block
from policy.execution.submission.gas import Bid, bump, first_bid
from policy.execution.submission.node import BlockHeader
from policy.execution.submission.signer import TxRequest
from policy.execution.transfers.ends import End, Refused, TransferContext
from policy.execution.transfers.saga import Saga, Sent


def canonical(end: End, tx_hash: str) -> Receipt | None:
    """Return the receipt of a transaction that is in the canonical chain, None where the node shows none."""
    receipt = end.node.receipt(tx_hash)
    if receipt is None or end.node.block_hash(receipt.block_number) != receipt.block_hash:
        return None
    return receipt


def last_final(end: End) -> int:
    """Return the newest final height of an end's chain."""
    return final_block(end.node, end.chain)


def next_nonce(ctx: TransferContext, end: End) -> int:
    """Return the keeper's next account nonce on the chain; a lagging node cannot make it fall below our own mined."""
    mined = [
        a.account_nonce + 1
        for s in ctx.log.sagas()
        for a in s.attempts
        if a.chain_id == end.chain.chain_id and a.mined and a.sender.lower() == end.sender.lower()
    ]
    return max([end.node.account_nonce(end.sender), *mined])


def others_waiting(ctx: TransferContext, end: End, saga: Saga) -> str:
    """Return why the account may sign nothing for ``saga`` now: another transaction of ours may still land."""
    why = end.busy()
    if why:
        return why
    for other in ctx.log.open():
        if other.transfer.saga_id == saga.transfer.saga_id:
            continue
        for sent in other.attempts:
            here = sent.chain_id == end.chain.chain_id and not sent.failed and not sent.mined
            if here and canonical(end, sent.tx_hash) is None:
                return f"the {sent.leg} of transfer {other.transfer.saga_id[:12]} waits on this chain"
    return ""


def launch(ctx: TransferContext, saga: Saga, leg: str, end: End, tx: UnsignedTx, least_gas: int = 0) -> Saga:
    """Simulate, sign, journal and hand over the first transaction of ``leg``; unchanged where it may not be signed."""
    if end.signer is None or not ctx.sends or others_waiting(ctx, end, saga):
        return saga
    used = end.estimate(tx)  # Refused says why it would revert; the caller knows what that means
    head = end.node.head()
    nonce = next_nonce(ctx, end)
    earlier = [Bid(a.max_fee_wei, a.tip_wei) for s in ctx.log.sagas() for a in _at(s, end, nonce)]
    bid = first_bid(head, end.node.fee_history(20), end.gas, earlier)
    if bid is None:
        raise Refused(f"gas on chain {end.chain.chain_id} is above the ceiling a transfer may offer")
    gas = max(used * 3 // 2, least_gas)
    if end.node.balance(end.sender) < gas * bid.max_fee_wei + tx.value:
        raise Refused(f"{end.sender} has too little gas money on chain {end.chain.chain_id} for a {leg}")
    request = TxRequest(tx.chain_id, tx.to, tx.data, tx.value, nonce, gas, bid.max_fee_wei, bid.tip_wei)
    return _send(ctx, saga, leg, end, request)


def _at(saga: Saga, end: End, nonce: int) -> list[Sent]:
    return [a for a in saga.attempts if (a.chain_id, a.account_nonce) == (end.chain.chain_id, nonce)]


def _send(ctx: TransferContext, saga: Saga, leg: str, end: End, request: TxRequest) -> Saga:
    assert end.signer is not None
    if not ctx.sends:
        return saga  # stopped since the look began
    signed = end.signer.sign(request)
    sent = Sent(
        leg, request.chain_id, signed.tx_hash, signed.raw, end.sender, request.nonce, request.gas_limit,
        request.max_fee_wei, request.tip_wei, end.node.head().number,
    )  # fmt: skip
    ctx.checkpoint(f"sign {leg}")
    saga = ctx.log.signed(saga, sent)
    ctx.checkpoint(f"signed {leg}")
    return hand_over(ctx, saga, sent, end)


def hand_over(ctx: TransferContext, saga: Saga, sent: Sent, end: End) -> Saga:
    """Give the signed bytes to the chain, the first time or again; the reply is journalled and proves nothing."""
    if not ctx.sends:
        return saga
    head = end.node.head().number
    reply = end.channel.send(sent.raw, sent.tx_hash, head + 1, head + 100)
    ctx.checkpoint(f"sent {sent.leg}")
    same = sent.handed and sent.reply == reply.text
    saga = saga if same else ctx.log.note("handed", saga, sent, reply.text)
    ctx.checkpoint(f"handed {sent.leg}")
    return saga


def pursue(ctx: TransferContext, saga: Saga, sent: Sent, end: End, tx: UnsignedTx | None) -> Saga:
    """Look a leg's transaction up: note where it is final or failed, else hand it over again or bump it.

    ``tx``: what a replacement carries; None: the bytes are handed over again and never replaced.
    """
    receipt, final = canonical(end, sent.tx_hash), last_final(end)
    if receipt is not None:
        if receipt.block_number > confirmed_block(end.node.head().number, end.chain):
            return saga
        if receipt.status == 0 and sent.leg == "depart" and receipt.block_number > final:
            return saga  # in another order of blocks it may still depart
        if receipt.status == 0:
            return ctx.log.note("failed", saga, sent, f"reverted in block {receipt.block_number}")
        return ctx.log.note("mined", saga, sent) if receipt.block_number <= final and not sent.mined else saga
    earlier = [a for a in saga.of(sent.leg) if a is not sent and a.account_nonce == sent.account_nonce]
    if any(canonical(end, a.tx_hash) for a in earlier):
        return saga  # the bytes it was to replace landed; the look by logs tells
    if final >= 0 and end.node.account_nonce(end.sender, final) > sent.account_nonce and sent.leg != "depart":
        return ctx.log.note("failed", saga, sent, f"account nonce {sent.account_nonce} went to another transaction")
    if not ctx.sends:
        return saga
    head = end.node.head()
    if tx is not None and end.signer is not None and sent.handed and head.number - sent.block >= ctx.rules.bump_after:
        return _bumped(ctx, saga, sent, end, tx, head)
    return hand_over(ctx, saga, sent, end)


def _bumped(ctx: TransferContext, saga: Saga, sent: Sent, end: End, tx: UnsignedTx, head: BlockHeader) -> Saga:
    """Replace a waiting transaction by the same call at a higher price, at the same account nonce."""
    bid = bump(Bid(sent.max_fee_wei, sent.tip_wei), head, end.node.fee_history(20), end.gas)
    if bid is None:
        return hand_over(ctx, saga, sent, end)
    request = TxRequest(
        tx.chain_id, tx.to, tx.data, tx.value, sent.account_nonce, sent.gas_limit, bid.max_fee_wei, bid.tip_wei
    )
    return _send(ctx, saga, sent.leg, end, request)

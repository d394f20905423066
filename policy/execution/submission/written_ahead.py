"""Transactions of a person's key, one at a time: signed bytes are on the disk before anything is sent.

What became of the last one is looked up before another is signed: mined, replaced at its account nonce, or still on
its way. No answer never means "send again": the same bytes may be offered again, and a dearer bid is signed at the same
nonce only, where at most one can land. A block that was replaced under a transaction reopens it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from lake.errors import ExecutionError, RpcError
from lake.rpc import quantity
from lake.units import BPS, WEI_PER_GWEI
from policy.execution.base import Receipt, UnsignedTx
from policy.execution.records.hashlog import HashLog, exclusive
from policy.execution.submission.channels import PublicChannel, Reply
from policy.execution.submission.gas import Bid, FeeRules, bump, first_bid, next_base_fee
from policy.execution.submission.node import JsonNode
from policy.execution.submission.reverts import reason_of
from policy.execution.submission.signer import Signer, TxRequest

MARGIN_BPS = 12_500
"""Gas limit over the estimate."""
SEEN_GONE = 3
"""Looks at which the account's number was used and no receipt was found, before another transaction is believed in: a
node may count a transaction before it finds its receipt."""


@dataclass(frozen=True, slots=True)
class Written:
    """A signed transaction as it stands in the log; ``words`` says what it does."""

    words: str
    sender: str
    to: str
    data: bytes = field(repr=False)
    nonce: int = 0
    gas_limit: int = 0
    bids: tuple[tuple[int, int], ...] = ()  # fee cap and tip of each signature, wei
    hashes: tuple[str, ...] = ()
    raws: tuple[str, ...] = field(default=(), repr=False)
    since: int = 0  # place in the log


class StillPending(ExecutionError):
    """A transaction has no receipt yet; the verb that sent it looks it up when it is run again."""


class WrittenAhead:
    """Sends for one key after another through one log. ``tick`` waits for the next block; ``patience`` ticks at most.

    Use :meth:`held` around everything: another process that holds the log is refused, not waited for.
    """

    def __init__(
        self, log: HashLog, node: JsonNode, rules: FeeRules, tick: Callable[[], None], *, patience: int = 150
    ) -> None:
        self.log, self.node, self.rules, self.tick, self.patience = log, node, rules, tick, patience
        self.channel = PublicChannel(node.rpc)
        self.chain_id = node.chain_id()

    def held(self) -> AbstractContextManager[None]:
        """Return a context in which this process alone may send by the log; BlockingIOError where another does."""
        return exclusive(self.log.path, wait=False)

    def open(self) -> Written | None:
        """Return the transaction whose end is not recorded, or whose block was replaced since; None: there is none."""
        found: Written | None = None
        ended: str | None = None
        for line in self.log.lines():
            body = line.body
            if body["event"] == "signed":
                same = found is not None and ended is None and found.nonce == body["nonce"]
                before = found if same and found is not None else None
                found, ended = _written(body, line.seq, before), None
            elif body["event"] in {"landed", "reverted", "void"}:
                ended = str(body["event"])
        if found is None or ended == "void":
            return None
        if ended is not None and self._receipt(found) is not None:
            return None
        if ended is not None and self.node.account_nonce(found.sender) > found.nonce:
            return None  # the node forgot an old receipt; the number is used all the same
        return found

    def settle(self, signer_of: Callable[[str], Signer | None] | None = None) -> Receipt | None:
        """Find out what became of the open transaction, offering its bytes again; return its receipt, None without one.

        ``signer_of``: gives the signer of an address, to raise a bid that the market has left behind; without it, and
        where it gives None, the old bytes are offered as they are. Raises StillPending where nothing is known in time,
        ExecutionError where it was mined and reverted.
        """
        given = self.open()
        if given is None:
            return None
        reply, gone = self._offer(given), 0
        for turn in range(self.patience):
            receipt = self._receipt(given)
            if receipt is not None:
                return self._ended(given, receipt)
            gone += self.node.account_nonce(given.sender) > given.nonce
            if gone >= SEEN_GONE:
                self._note({"event": "void", "nonce": given.nonce, "sender": given.sender})
                return None
            if signer_of is not None and turn and self._left_behind(given):
                signer = signer_of(given.sender)
                given = given if signer is None else self._raised(given, signer)
                reply = self._offer(given)
            self.tick()
        raise StillPending(
            f"{given.words}: no receipt of {given.hashes[-1]} yet (the node said: {reply.text or 'nothing'}); run the "
            "same command again, it looks it up and sends nothing anew"
        )

    def send(self, words: str, tx: UnsignedTx, signer: Signer, gas: int | None = None) -> Receipt:
        """Write, sign and send ``tx`` and return its receipt. Raises like :meth:`settle`, and where one is open still.

        ``gas``: its limit; None: a quarter more than is estimated. What the chain would refuse is not signed:
        ExecutionError with its reason.
        """
        if self.open() is not None:
            raise ExecutionError("an earlier transaction of this log is not settled; settle it first")
        nonce = self.node.account_nonce(signer.address)
        pooled = self.node.account_nonce(signer.address, "pending")
        if pooled > nonce:
            raise ExecutionError(
                f"{signer.address} has {pooled - nonce} transactions on their way that are not this project's; wait "
                "for them or replace them, then run it again"
            )
        gas = gas or self._estimate(tx, signer.address, words)
        head = self.node.head()
        bid = first_bid(head, self.node.fee_history(20), self.rules)
        if bid is None:
            raise ExecutionError(
                f"the base fee of {head.base_fee_wei / WEI_PER_GWEI:.3g} gwei is above the ceiling of "
                f"{self.rules.ceiling_wei / WEI_PER_GWEI:.3g} gwei; run it again later"
            )
        money, needed = self.node.balance(signer.address), gas * bid.max_fee_wei
        if money < needed:
            raise ExecutionError(
                f"{words}: {signer.address} has {money / 10**18:.6f} of the chain's coin, at most {needed / 10**18:.6f}"
                " is needed; send it the difference, then run it again"
            )
        self._sign(Written(words, signer.address, tx.to, tx.data, nonce, gas), bid, signer)
        receipt = self.settle(lambda _: signer)
        if receipt is None:
            raise ExecutionError(f"{words}: another transaction took its number {nonce}; run it again")
        return receipt

    def fee_wei(self) -> int:
        """Return what a unit of gas is bid now, wei; the ceiling where the market is above it."""
        bid = first_bid(self.node.head(), self.node.fee_history(20), self.rules)
        return self.rules.ceiling_wei if bid is None else bid.max_fee_wei

    def _estimate(self, tx: UnsignedTx, sender: str, words: str) -> int:
        call = {"from": sender, "to": tx.to, "data": "0x" + tx.data.hex()}
        try:
            return quantity(self.node.rpc.call("eth_estimateGas", [call])) * MARGIN_BPS // BPS
        except RpcError as error:
            if error.code is None:
                raise
            raise ExecutionError(
                f"{words}: the chain would refuse it ({reason_of(error.data, str(error))}); nothing was signed"
            ) from None

    def _sign(self, given: Written, bid: Bid, signer: Signer) -> Written:
        request = TxRequest(
            self.chain_id, given.to, given.data, 0, given.nonce, given.gas_limit, bid.max_fee_wei, bid.tip_wei
        )
        signed = signer.sign(request)
        body = {
            "event": "signed", "words": given.words, "sender": given.sender, "to": given.to,
            "data": given.data.hex(), "nonce": given.nonce, "gas_limit": given.gas_limit, "chain_id": self.chain_id,
            "max_fee_wei": bid.max_fee_wei, "tip_wei": bid.tip_wei, "tx_hash": signed.tx_hash,
            "raw": "0x" + signed.raw.hex(),
        }  # fmt: skip
        self._note(body)
        return replace(
            given,
            bids=(*given.bids, (bid.max_fee_wei, bid.tip_wei)),
            hashes=(*given.hashes, signed.tx_hash),
            raws=(*given.raws, "0x" + signed.raw.hex()),
        )

    def _offer(self, given: Written) -> Reply:
        head = self.node.head().number
        return self.channel.send(bytes.fromhex(given.raws[-1][2:]), given.hashes[-1], head + 1, head + 50)

    def _left_behind(self, given: Written) -> bool:
        """Return whether the next block's base fee is above what was bid."""
        return given.bids[-1][0] < next_base_fee(self.node.head(), self.rules)

    def _raised(self, given: Written, signer: Signer) -> Written:
        """Sign the same transaction at the same nonce with a higher bid, where the ceiling allows one."""
        bid = bump(Bid(*given.bids[-1]), self.node.head(), self.node.fee_history(20), self.rules)
        return given if bid is None else self._sign(given, bid, signer)

    def _receipt(self, given: Written) -> Receipt | None:
        """Return the receipt of whichever signature was mined on the canonical chain."""
        for tx_hash in given.hashes:
            receipt = self.node.receipt(tx_hash)
            if receipt is not None and self.node.block_hash(receipt.block_number) == receipt.block_hash:
                return receipt
        return None

    def _ended(self, given: Written, receipt: Receipt) -> Receipt:
        event = "landed" if receipt.status == 1 else "reverted"
        place = {"tx_hash": receipt.tx_hash, "block": receipt.block_number, "gas_used": receipt.gas_used}
        self._note({"event": event, "nonce": given.nonce, "sender": given.sender, **place})
        if receipt.status != 1:
            raise ExecutionError(
                f"{given.words}: {receipt.tx_hash} was mined in block {receipt.block_number} and reverted; run it "
                "again, which says why before it signs"
            )
        return receipt

    def _note(self, body: dict[str, object]) -> None:
        self.log.append(body, held=True)


def _written(row: Mapping[str, Any], seq: int, before: Written | None) -> Written:
    bid = (int(row["max_fee_wei"]), int(row["tip_wei"]))
    old = before or Written(
        str(row["words"]), str(row["sender"]), str(row["to"]), bytes.fromhex(str(row["data"])), int(row["nonce"]),
        int(row["gas_limit"]),
    )  # fmt: skip
    return replace(
        old,
        bids=(*old.bids, bid),
        hashes=(*old.hashes, str(row["tx_hash"])),
        raws=(*old.raws, str(row["raw"])),
        since=seq,
    )

"""Ways to get a signed transaction into a block, and the choice between them.

A relay never proves that a transaction is dead: a private one reported expired has been mined 90 minutes later. It
counts as live until its account nonce is used or the plan's deadline has passed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from lake.errors import RpcError
from lake.json_text import parsed
from lake.rpc import Rpc, mask
from policy.execution.base import Verdict
from policy.execution.checks.verdicts import passed

KNOWN = ("already known", "alreadyknown", "known transaction", "already imported", "already in mempool")
GONE = ("nonce too low", "nonce is too low", "oldnonce", "nonce below sender account nonce", "already used")
UNDERPRICED = (
    "underpriced",
    "feetoolow",
    "fee too low",
    "gas price below configured minimum",
    "below minimum gas price",
)
POOR = ("insufficient funds", "insufficientfunds", "insufficient balance", "upfront cost exceeds account balance")
REFUSED = (
    *("in-flight transaction limit", "delegated account", "already reserved", "pool is full", "limit exceeded"),
    *(
        "exceeds block gas limit",
        "sender not an eoa",
        "gas limit too high",
        "intrinsic gas",
        "oversized data",
        "nonce too high",
        "nonce gap",
    ),
    *(
        "invalid sender",
        "invalid chain id",
        "invalid signature",
        "not supported",
        "max fee per gas",
        "max priority fee",
    ),
    *("exceeds the configured cap", "too many requests", "rate limit", "rejected", "not allowed", "not permitted"),
)
"""Words of nodes (geth, Erigon, Nethermind, Besu) that do not hold it: full, limited, or not acceptable."""
HASHES = frozenset({"eth_sendRawTransaction", "eth_sendPrivateTransaction"})
"""Methods that answer with the transaction's hash; another answer says nothing about it."""
SHARED_BLOCKS = 24  # most blocks a matchmaker keeps a bundle (MEV-Share: 30)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``taken``: True it is held, False it certainly is not, None nobody knows (look it up)."""

    taken: bool | None
    text: str

    @property
    def outbid(self) -> bool:
        """Whether the node wants a higher bid."""
        return self.taken is False and any(k in self.text.lower() for k in UNDERPRICED)

    @property
    def known(self) -> bool:
        """Whether the node says that it holds these very bytes already."""
        return any(k in self.text.lower() for k in KNOWN)


class Channel(Protocol):
    """One way to hand over signed bytes. ``send`` never raises for an answer or a lost answer; it says so instead."""

    name: str
    private: bool

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Hand over ``raw``, wanted in blocks ``next_block`` .. ``max_block``."""
        ...

    def cancel(self, tx_hash: str) -> Reply:
        """Ask to drop it; proves nothing."""
        ...


def classify(error: RpcError) -> Reply:
    """Return what an error says about the transaction; a lost answer (no code) says nothing."""
    text = str(error)
    low = text.lower()
    if error.code is None:
        return Reply(None, text)
    if any(k in low for k in KNOWN):
        return Reply(True, text)
    if any(k in low for k in (*UNDERPRICED, *POOR, *GONE, *REFUSED)):
        return Reply(False, text)
    return Reply(None, text)


class PublicChannel:
    """``eth_sendRawTransaction``: every searcher sees it, and replacement errors come back."""

    name = "public"
    private = False

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Send once."""
        del next_block, max_block
        return _ask(self._rpc, "eth_sendRawTransaction", ["0x" + raw.hex()], tx_hash)

    def cancel(self, tx_hash: str) -> Reply:
        """Say that the public pool forgets nothing."""
        return Reply(None, f"{tx_hash} stays in the public pool until its nonce is used")


class MessageSigner(Protocol):
    """Signs relay requests; its own key without funds, never the keeper's."""

    address: str

    def sign_message(self, text: str) -> str:
        """Return the EIP-191 signature of ``text``."""
        ...


class SignedRelay:
    """JSON-RPC with the ``X-Flashbots-Signature`` header: address, and EIP-191 signature of keccak(body)."""

    def __init__(
        self, url: str, signer: MessageSigner, timeout: float = 5.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = url
        self._signer = signer
        self._client = httpx.Client(transport=transport, timeout=timeout, follow_redirects=False)

    def __repr__(self) -> str:
        return f"SignedRelay({mask(self._url)})"

    def call(self, method: str, params: Sequence[object]) -> object:
        """Return the result; RpcError with the relay's code, or without one when no answer came."""
        from eth_utils.crypto import keccak

        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        signature = self._signer.sign_message("0x" + keccak(text=body).hex())
        headers = {
            "Content-Type": "application/json",
            "X-Flashbots-Signature": f"{self._signer.address}:{signature}",
        }
        try:
            answer = self._client.post(self._url, content=body.encode(), headers=headers)
            data: Any = parsed(answer.content)
        except httpx.HTTPError as error:
            raise RpcError(f"{method}: {mask(self._url)}: {type(error).__name__}; the outcome is unknown") from None
        except ValueError:
            raise RpcError(f"{method}: {mask(self._url)}: HTTP {answer.status_code} without JSON") from None
        if not isinstance(data, Mapping):
            raise RpcError(f"{method}: {mask(self._url)}: the answer is no JSON-RPC")
        error_part = data.get("error")
        if error_part:
            message = error_part.get("message") if isinstance(error_part, Mapping) else error_part
            code = error_part.get("code") if isinstance(error_part, Mapping) else None
            raise RpcError(f"{method}: {message}", code if isinstance(code, int) else -32000)
        return data.get("result")


class PrivateChannel:
    """``eth_sendPrivateTransaction`` of a node, or of a relay that wants it signed."""

    name = "private"
    private = True

    def __init__(self, relay: SignedRelay | Rpc) -> None:
        self._relay = relay

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Send once, wanted until ``max_block``."""
        del next_block
        params = [{"tx": "0x" + raw.hex(), "maxBlockNumber": hex(max_block), "preferences": {"fast": True}}]
        return _ask(self._relay, "eth_sendPrivateTransaction", params, tx_hash)

    def cancel(self, tx_hash: str) -> Reply:
        """Ask the relay to drop it."""
        return _ask(self._relay, "eth_cancelPrivateTransaction", [{"txHash": tx_hash}], tx_hash)


class BundleChannel:
    """``eth_sendBundle``: the same bytes for each of the next ``blocks`` blocks, all or nothing."""

    name = "bundle"
    private = True

    def __init__(self, relay: SignedRelay | Rpc, blocks: int = 5) -> None:
        self._relay = relay
        self._blocks = blocks

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Send one bundle a target block, at most up to ``max_block``; held if any was taken."""
        replies = []
        for block in range(next_block, max(next_block, min(next_block + self._blocks - 1, max_block)) + 1):
            bundle = {"txs": ["0x" + raw.hex()], "blockNumber": hex(block), "replacementUuid": _uuid(tx_hash)}
            replies.append(_ask(self._relay, "eth_sendBundle", [bundle], tx_hash))
        taken = True if any(r.taken for r in replies) else (None if any(r.taken is None for r in replies) else False)
        return Reply(taken, replies[-1].text)

    def cancel(self, tx_hash: str) -> Reply:
        """Ask the relay to drop the bundles."""
        return _ask(self._relay, "eth_cancelBundle", [{"replacementUuid": _uuid(tx_hash)}], tx_hash)


class ShareChannel:
    """``mev_sendBundle`` (MEV-Share): searchers see the hints only and pay back ``refund_percent`` of what they bid.

    ``refund_to``: who is paid; the transaction's sender where not given.
    """

    name = "share"
    private = True

    def __init__(
        self,
        relay: SignedRelay | Rpc,
        hints: Sequence[str] = ("hash", "logs"),
        refund_percent: int = 90,
        refund_to: str | None = None,
    ) -> None:
        self._relay = relay
        self._hints = tuple(hints)
        self._refund = refund_percent
        self._to = refund_to

    def send(self, raw: bytes, tx_hash: str, next_block: int, max_block: int) -> Reply:
        """Send once, valid until ``max_block`` or the most blocks a matchmaker keeps it."""
        last = max(next_block, min(max_block, next_block + SHARED_BLOCKS))
        named = {} if self._to is None else {"refundConfig": [{"address": self._to, "percent": 100}]}
        bundle = {
            "version": "v0.1",
            "inclusion": {"block": hex(next_block), "maxBlock": hex(last)},
            "body": [{"tx": "0x" + raw.hex(), "canRevert": False}],
            "validity": {"refund": [{"bodyIdx": 0, "percent": self._refund}], **named},
            "privacy": {"hints": list(self._hints)},
        }
        return _ask(self._relay, "mev_sendBundle", [bundle], tx_hash)

    def cancel(self, tx_hash: str) -> Reply:
        """Say that MEV-Share forgets nothing before ``maxBlock``."""
        return Reply(None, f"{tx_hash} stays with the matchmaker until its last block")


class _Caller(Protocol):
    def call(self, method: str, params: Sequence[object]) -> object: ...


def _ask(caller: _Caller, method: str, params: Sequence[object], tx_hash: str) -> Reply:
    try:
        answer = caller.call(method, params)
    except RpcError as error:
        return classify(error)
    if method in HASHES and str(answer).lower() != tx_hash.lower():
        return Reply(None, f"{method}: the answer is {str(answer)[:80]!r}, due is the hash of what was sent")
    return Reply(True, tx_hash)


def _uuid(tx_hash: str) -> str:
    """Return a UUID made of the hash, so that a repeated send replaces and never adds."""
    h = tx_hash.removeprefix("0x")[:32]
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:32]}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What is known about a channel: blocks until inclusion on average, and the share of MEV it loses.

    Public: 1 block, all of the loss. Private: relays reach part of the builders only, so it takes longer; nothing is
    lost. Share: searchers back-run and pay part of it back (negative loss is not assumed).
    """

    delay_blocks: float
    loss_share: float


DEFAULT_COSTS: Mapping[str, Cost] = {
    "public": Cost(1.0, 1.0),
    "private": Cost(2.5, 0.0),
    "bundle": Cost(2.5, 0.0),
    "share": Cost(3.0, 0.0),
}


def choose_channel(
    names: Sequence[str],
    expected_mev_loss_usd: float,
    delay_cost_usd_per_block: float,
    costs: Mapping[str, Cost] = DEFAULT_COSTS,
) -> tuple[str, Verdict]:
    """Return the channel with the least expected loss (MEV plus waiting) and the figures that decided.

    ``delay_cost_usd_per_block``: what one block of waiting costs, e.g. the benefit's decay; ties go to the first name.
    """
    totals = {
        n: costs[n].loss_share * expected_mev_loss_usd + costs[n].delay_blocks * delay_cost_usd_per_block for n in names
    }
    best = min(names, key=lambda n: totals[n])
    figures: dict[str, str | int | float] = {f"{n}_usd": totals[n] for n in names}
    figures |= {"mev_usd": expected_mev_loss_usd, "delay_usd_per_block": delay_cost_usd_per_block}
    return best, passed("channel", f"{best}: {totals[best]:.4f} USD expected", **figures)

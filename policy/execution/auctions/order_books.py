"""Hosted order books, by their documented HTTP APIs: CoW's and UniswapX's. What is told there is public anyway.

Nothing is asked of them but to spread the order: whether it was filled is read from the chain. An answer that names
another order than ours is said, never believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from lake.json_text import parsed
from policy.execution.auctions.orders import Order, VenueKind, cow_fields, cow_uid, reactor_order, witness

TIMEOUT_S = 10.0
NO_SIGNATURE = "0x" + "00" * 65
"""The vault answers for itself (ERC-1271); an API that wants the length of a signature gets it."""
_SHOWN = 200
_OK = frozenset({200, 201})
_KNOWN = ("DuplicatedOrder", "already exists", "OrderAlreadyExists")


def http_client(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Return a client that follows no redirect: an order goes where it was told to go, or nowhere."""
    return httpx.Client(transport=transport, timeout=TIMEOUT_S, follow_redirects=False)


@dataclass(frozen=True, slots=True)
class CowBook:
    """CoW's order book at ``url`` (``https://api.cow.fi/<network>``): ``POST /api/v1/orders``, scheme ``eip1271``."""

    url: str
    http: httpx.Client = field(default_factory=http_client, repr=False)

    def publish(self, order: Order, vault: str, digest: bytes) -> str:
        """Post the order; return what was said, empty where it was known."""
        body = {**cow_fields(order, vault), "signingScheme": "eip1271", "signature": "0x", "from": vault}
        uid = "0x" + cow_uid(digest, vault, order.expiry).hex()
        return _posted(self.http, f"{self.url.rstrip('/')}/api/v1/orders", body, uid)


@dataclass(frozen=True, slots=True)
class UniswapXBook:
    """UniswapX's order service at ``url`` (``https://api.uniswap.org/v2``): ``POST /order``."""

    url: str
    chain_id: int
    http: httpx.Client = field(default_factory=http_client, repr=False)

    def publish(self, order: Order, vault: str, digest: bytes) -> str:
        """Post the order; return what was said, empty where it was known."""
        del digest  # the service names an order by the hash of its fields, without Permit2's domain
        body = {
            "encodedOrder": "0x" + reactor_order(order, vault).hex(),
            "signature": NO_SIGNATURE,
            "chainId": self.chain_id,
            "orderType": "Dutch" if order.kind is VenueKind.DUTCH else "Priority",
        }
        return _posted(self.http, f"{self.url.rstrip('/')}/order", body, "0x" + witness(order, vault).hex())


@dataclass(frozen=True, slots=True)
class OrderBooks:
    """The books that are configured, by kind of order; an order of another kind is told nobody."""

    books: Mapping[VenueKind, CowBook | UniswapXBook]

    def publish(self, order: Order, vault: str, digest: bytes) -> str:
        """Tell the book of the order's kind, where there is one."""
        book = self.books.get(order.kind)
        return "" if book is None else book.publish(order, vault, digest)


def books_at(cow_url: str | None, uniswapx_url: str | None, chain_id: int) -> OrderBooks | None:
    """Return the books at the given addresses, None without any."""
    books: dict[VenueKind, CowBook | UniswapXBook] = {}
    if cow_url:
        books[VenueKind.COW] = CowBook(cow_url)
    if uniswapx_url:
        service = UniswapXBook(uniswapx_url, chain_id)
        books |= {VenueKind.DUTCH: service, VenueKind.PRIORITY: service}
    return OrderBooks(books) if books else None


def _posted(http: httpx.Client, url: str, body: Mapping[str, object], name: str) -> str:
    """Post once; return what came back in words. Never raises: the order is on chain whatever is said here."""
    try:
        answer = http.post(url, json=body)
    except (httpx.HTTPError, OSError) as error:
        return f"{httpx.URL(url).host} did not answer: {type(error).__name__}"
    text = answer.text[:_SHOWN]
    if answer.status_code in _OK:
        told = _name_of(answer)
        return f"published as {name}" if told == name.lower() else f"it answered with another order: {text}"
    if any(word in answer.text for word in _KNOWN):
        return ""
    return f"{httpx.URL(url).host} answered {answer.status_code}: {text}"


def _name_of(answer: httpx.Response) -> str:
    """Return the order an answer names: CoW answers with its uid, UniswapX with an object that holds its hash."""
    try:
        said = parsed(answer.content)
    except ValueError:
        return ""
    return str(said.get("hash", "") if isinstance(said, dict) else said).lower()

"""Hosted order books against doubles of their documented APIs: told once, never believed, never in the way."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest

from pipelines.auctions_section import AuctionsSection
from pipelines.vault_setup.onchain import auctions_of, order_book_of
from policy.execution.auctions.order_books import CowBook, OrderBooks, UniswapXBook, http_client
from policy.execution.auctions.orders import (
    Domains,
    Order,
    VenueKind,
    cow_uid,
    digest,
    reactor_order,
    witness,
)

VAULT, VENUE = "0x" + "aa" * 20, "0x" + "bb" * 20
ORDER = Order(
    VenueKind.COW, VENUE, "0x" + "01" * 20, "0x" + "02" * 20, 10**18, 1_500 * 10**6, 1_700_000_600, 7, 100_000
)
DUTCH = replace(ORDER, kind=VenueKind.DUTCH, start=1_510 * 10**6, starts=1_700_000_000, ends=1_700_000_300)
NAME = digest(ORDER, VAULT, Domains(b"\1" * 32, b"\2" * 32))
UID = "0x" + cow_uid(NAME, VAULT, ORDER.expiry).hex()


def double(answer, seen):
    """A service that keeps what it was sent and answers ``answer`` (or raises it)."""

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, str(request.url), json.loads(request.content)))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return http_client(httpx.MockTransport(handle))


def test_cow_is_told_the_order_with_the_vault_as_its_owner():
    seen: list = []
    book = CowBook("https://api.cow.example/mainnet/", double(httpx.Response(201, json=UID), seen))
    assert book.publish(ORDER, VAULT, NAME) == f"published as {UID}"
    [(method, url, body)] = seen
    assert (method, url) == ("POST", "https://api.cow.example/mainnet/api/v1/orders")
    assert body["receiver"].lower() == body["from"].lower() == VAULT
    assert (body["sellAmount"], body["buyAmount"], body["validTo"]) == (str(10**18), str(1_500 * 10**6), ORDER.expiry)
    assert (body["signingScheme"], body["kind"], body["partiallyFillable"]) == ("eip1271", "sell", False)


def test_uniswapx_is_told_the_encoded_order_and_its_type():
    seen: list = []
    name = "0x" + witness(DUTCH, VAULT).hex()
    book = UniswapXBook("https://api.uniswap.example/v2", 1, double(httpx.Response(201, json={"hash": name}), seen))
    assert book.publish(DUTCH, VAULT, NAME) == f"published as {name}"
    [(method, url, body)] = seen
    assert (method, url) == ("POST", "https://api.uniswap.example/v2/order")
    assert body["encodedOrder"] == "0x" + reactor_order(DUTCH, VAULT).hex()
    assert (body["chainId"], body["orderType"]) == (1, "Dutch")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(400, json={"errorType": "DuplicatedOrder"}), ""),
        (httpx.Response(400, json={"errorType": "InsufficientBalance"}), "400"),
        (httpx.Response(201, json="0x1234"), "another order"),
        (httpx.Response(200, text="<html>"), "another order"),
        (httpx.Response(302, headers={"location": "https://elsewhere.example"}), "302"),
        (httpx.Response(503, text="x" * 5_000), "503"),
        (httpx.ConnectTimeout("late"), "did not answer: ConnectTimeout"),
        (httpx.RemoteProtocolError("cut"), "did not answer: RemoteProtocolError"),
    ],
)
def test_whatever_comes_back_is_only_words(answer, said):
    seen: list = []
    told = CowBook("https://api.cow.example", double(answer, seen)).publish(ORDER, VAULT, NAME)
    assert said in told
    assert (told == "") == (said == "")
    assert len(told) < 300
    assert len(seen) == 1, "told once: no retry, no redirect followed"


def test_an_order_goes_only_to_the_book_of_its_kind():
    seen: list = []
    books = OrderBooks({VenueKind.COW: CowBook("https://c.example", double(httpx.Response(201, json=UID), seen))})
    assert books.publish(DUTCH, VAULT, NAME) == ""
    assert seen == []
    assert books.publish(ORDER, VAULT, NAME)


def test_nothing_is_offered_or_sent_unless_it_is_configured():
    assert auctions_of(None) is None
    assert order_book_of(None, 1) is None
    plain = AuctionsSection(venues=("dutch",))
    assert order_book_of(plain, 1) is None
    terms = auctions_of(plain)
    assert terms is not None
    assert terms.venues == (VenueKind.DUTCH,)
    both = AuctionsSection(venues=("cow", "priority"), cow_api="https://c.example", uniswapx_api="https://u.example")
    books = order_book_of(both, 10)
    assert books is not None
    assert set(books.books) == set(VenueKind)

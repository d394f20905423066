"""Laws of every bridge adapter: what a look says, that it says it again, and that no money is in two places."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lake.errors import RpcError
from policy.execution.base import Verdict
from policy.execution.bridges.base import Sighting, TransferQuote, converted
from tests.transfers.real_bridges import AcrossCase, OftCase
from tests.transfers.real_chains import CctpCase
from tests.transfers.two_chains import KINDS, STRANGER, TwoChains


class SimulatedCase:
    """The laws' world over two simulated chains; an adapter of real contracts brings one of its own."""

    def __init__(self, kind: str, decimals=(6, 6), fee_pips: int = 100) -> None:
        self.world = TwoChains(kind, decimals, fee_pips)
        self.decimals = decimals
        self.bridge = self.world.bridge()
        self.relayed = kind == "simulated-fill"

    def transfer(self, **changes):
        return self.world.transfer(**changes)

    def depart(self, transfer) -> None:
        self.world.depart(transfer)
        self.world.mine()

    def finalize(self) -> None:
        self.world.mine(4)

    def pass_deadline(self) -> None:
        self.world.mine(1, skip_s=4_000)
        self.world.mine(2)

    def arrive(self, transfer) -> None:
        """Deliver as this bridge does: by the relayer, or by anyone who brings the message."""
        if self.relayed:
            assert self.world.relay(transfer) == ""
        else:
            tx = self.bridge.deliver(transfer, self.bridge.find(transfer))
            assert tx is not None
            self.world.send(1, tx, STRANGER)
        self.world.mine()

    def deliver_again(self, transfer, tx) -> None:
        if tx is not None:
            self.world.send(1, tx, STRANGER)
        else:
            self.world.relay(transfer)
        self.world.mine()

    def come_home(self, transfer) -> str:
        return self.world.come_home(transfer)

    def reorg_origin(self, depth: int, *, keep: bool) -> None:
        self.world.a.reorg(depth, keep=keep)

    def blind(self, side: int) -> None:
        def head():
            raise RpcError("connection refused")

        self.world.chains[side].head = head

    def balances(self) -> tuple[int, int]:
        return self.world.balance(0), self.world.balance(1)

    def pause(self, side: int) -> None:
        self.world.pause(side, True)

    def limit(self, amount: int) -> None:
        """Let a message carry no more than ``amount``."""
        b = self.world.b
        b.set_world(replace(b.world, bridges=replace(b.world.bridges, inbound_limit=amount)))

    def unmap(self) -> None:
        """Let the destination know no token for the origin's."""
        b = self.world.b
        b.set_world(replace(b.world, bridges=replace(b.world.bridges, inbound_limit=10**30, peers=())))


DECIMALS = ((6, 6), (6, 18), (18, 6))
CASES = {f"{k} {d[0]} to {d[1]}": (SimulatedCase, k, d) for k in KINDS for d in DECIMALS}
REAL = {"cctp": CctpCase, "across": AcrossCase, "oft": OftCase}
"""Adapters of contracts, on two local chains."""


@pytest.fixture(params=[*CASES, *(pytest.param(k, marks=pytest.mark.chain) for k in REAL)])
def case(request):
    if request.param in REAL:
        return REAL[request.param](request.getfixturevalue("chain_pair"))
    make, *given = CASES[request.param]
    return make(*given)


def key(s: Sighting) -> tuple:
    """What only ever grows on a growing chain."""
    return (s.departed, s.final, s.arrived > 0 or s.returned > 0, s.settled_final)


def test_nothing_is_seen_before_it_departed_and_nothing_is_raised(case):
    seen = case.bridge.find(case.transfer())
    assert seen.known
    assert not seen.departed
    assert seen.moving == seen.arrived == seen.returned == 0
    assert seen.reason


def test_a_look_is_pure_and_grows_with_the_chain(case):
    transfer = case.transfer()
    case.depart(transfer)
    history = []
    for step in (lambda: None, case.finalize, lambda: case.arrive(transfer), case.finalize, case.finalize):
        step()
        seen = case.bridge.find(transfer)
        assert case.bridge.find(transfer) == seen
        assert not (seen.arrived and seen.returned)
        history.append(key(seen))
    assert history == sorted(history), "what was seen on a growing chain is seen later too"
    assert history[-1] == (True, True, True, True)


def test_what_left_is_what_arrived_and_the_fee(case):
    transfer = case.transfer()
    before = case.balances()
    case.depart(transfer)
    case.finalize()
    case.arrive(transfer)
    case.finalize()
    seen, after = case.bridge.find(transfer), case.balances()
    assert seen.sent == transfer.amount == before[0] - after[0]
    assert seen.arrived == after[1] - before[1] == transfer.least
    back, dust = converted(seen.arrived, transfer.destination.decimals, transfer.origin.decimals)
    assert back + (1 if dust else 0) + seen.fee + seen.returned == seen.sent


def test_deliver_twice_delivers_once(case):
    transfer = case.transfer()
    case.depart(transfer)
    case.finalize()
    tx = case.bridge.deliver(transfer, case.bridge.find(transfer))
    assert (tx is None) == case.relayed
    case.arrive(transfer)
    once = case.balances()
    case.deliver_again(transfer, tx)
    assert case.balances() == once
    case.finalize()
    assert case.bridge.deliver(transfer, case.bridge.find(transfer)) is None


def test_nothing_is_delivered_before_the_departure_is_final(case):
    transfer = case.transfer()
    case.depart(transfer)
    seen = case.bridge.find(transfer)
    assert seen.departed
    assert not seen.final
    assert not seen.deliverable
    assert case.bridge.deliver(transfer, seen) is None


@pytest.mark.parametrize("keep", [True, False])
def test_a_reorganised_departure_is_unseen_again(case, keep):
    transfer = case.transfer()
    case.depart(transfer)
    case.reorg_origin(1, keep=keep)
    seen = case.bridge.find(transfer)
    assert seen.departed == keep
    assert not seen.final


@pytest.mark.parametrize("side", [0, 1])
def test_a_side_that_cannot_be_read_is_no_absence(case, side):
    transfer = case.transfer()
    case.depart(transfer)
    case.blind(side)
    seen = case.bridge.find(transfer)
    assert not seen.known
    assert "connection refused" in seen.reason
    assert not any((seen.departed, seen.arrived, seen.returned, seen.expired))


def test_an_expired_transfer_comes_home_in_whole_or_stays_deliverable(case):
    transfer = case.transfer()
    before = case.balances()
    case.depart(transfer)
    case.finalize()
    assert not case.bridge.find(transfer).expired
    case.pass_deadline()
    seen = case.bridge.find(transfer)
    caps = case.bridge.describe()
    assert seen.expired == caps.has_deadline == (caps.refund == "origin")
    if caps.refund == "none":
        case.arrive(transfer)
        case.finalize()
        assert case.bridge.find(transfer).arrived == transfer.least
        return
    assert seen.moving == transfer.amount, "in neither place until the refund is paid"
    assert case.come_home(transfer) == ""
    case.finalize()
    seen = case.bridge.find(transfer)
    assert (seen.returned, seen.arrived, seen.settled_final) == (transfer.amount, 0, True)
    assert case.balances() == before


def test_a_quote_never_promises_more_than_arrives(case):
    transfer = case.transfer(amount=123_456_789 * 10 ** max(0, case.decimals[0] - 6) + 7)
    quote = case.bridge.quote(transfer, transfer.since)
    assert isinstance(quote, TransferQuote)
    assert quote.amount <= transfer.amount
    assert quote.fee <= transfer.amount // 100
    transfer = replace(transfer, amount=quote.amount, least=quote.least, max_fee=quote.fee)
    case.depart(transfer)
    case.finalize()
    case.arrive(transfer)
    case.finalize()
    assert case.bridge.find(transfer).arrived >= quote.least


def test_no_route_is_no_quote(case):
    transfer = replace(case.transfer(), route=9)
    refused = case.bridge.quote(transfer, transfer.since)
    assert isinstance(refused, Verdict)
    assert (refused.ok, refused.check) == (False, "bridge_quote")


def names(case, transfer) -> set[str]:
    return {v.check for v in case.bridge.preflight(transfer)}


@pytest.mark.parametrize("side", [0, 1])
def test_a_paused_bridge_is_refused_by_name(case, side):
    transfer = case.transfer()
    assert names(case, transfer) == set()
    case.pause(side)
    assert names(case, transfer) == {"bridge_paused"}


def test_wrong_decimals_limits_and_unmapped_tokens_are_refused_by_name(case):
    transfer = case.transfer()
    wrong = replace(transfer, destination=replace(transfer.destination, decimals=transfer.destination.decimals + 12))
    assert "decimals" in names(case, wrong)
    case.limit(10)
    assert names(case, transfer) == {"bridge_limit"}
    case.unmap()
    assert names(case, transfer) == {"representation_unknown"}


def test_units_convert_exactly_and_leave_the_dust():
    for raw in (0, 1, 999_999, 10**6, 10**18 + 7, 123_456_789_012_345_678):
        for near, far in ((6, 18), (18, 6), (8, 6), (6, 6)):
            there, dust = converted(raw, near, far)
            assert converted(there, far, near) == (raw - dust, 0)
            assert 0 <= dust < 10 ** max(0, near - far)

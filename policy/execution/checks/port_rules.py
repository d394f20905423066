"""The port's rules by the contract's own integer arithmetic (contracts/foredrift_port.vy, routes.vy).

Amounts are raw units of the route's token; the rate counts millionths of a whole token, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lake.units import BPS
from policy.execution.base import Verdict
from policy.execution.checks.rules import Clock, Mandate, broken

CCTP, ACROSS, OFT = 1, 2, 3
KINDS = {"cctp": CCTP, "across": ACROSS, "oft": OFT}
FINAL, FAST = 2_000, 1_000
"""Least finality of a CCTP departure."""
UNIT_DECIMALS = 6
MAX_FEE_BPS = 300
MAX_ROUTES = 64
MOST_SPEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route as the vault keeps it. ``destination``: CCTP domain, chain id or endpoint id; ``in_transit`` is counted.

    ``speed``: least finality (CCTP), least seconds before a refund (Across), least gas on the destination (OFT).
    """

    kind: int
    target: str
    token: str
    destination: int
    recipient: str
    output: str
    output_decimals: int
    max_one: int
    max_transit: int
    fee_bps: int
    speed: int
    in_transit: int = 0

    def encoded(self) -> tuple[object, ...]:
        """Return the fields in the contract's order."""
        return (
            *(self.kind, self.target, self.token, self.destination, self.recipient, self.output),
            *(self.output_decimals, self.max_one, self.max_transit, self.fee_bps, self.speed),
        )


CLOSED = RouteRow(0, "0x" + "0" * 40, "0x" + "0" * 40, 0, "0x" + "0" * 40, "0x" + "0" * 40, 0, 0, 0, 0, 0)
"""The row that closes a route."""


@dataclass(frozen=True, slots=True)
class PortBook:
    """What the vault's port knows at one block.

    ``beneficiary``: who alone may hold shares, None for anybody; ``sole``: he holds them all; ``managed``: a manager's
    fee is due in shares. ``budget``, ``before``, ``now``: millionths of a token, in any window, in the calendar window
    before the one numbered ``window`` and in it. ``held``: raw units by token without what is set aside for claims.
    """

    rows: dict[int, RouteRow] = field(default_factory=dict)
    beneficiary: str | None = None
    sole: bool = False
    managed: bool = False
    window_s: int = 0
    budget: int = 0
    window: int = 0
    before: int = 0
    now: int = 0
    held: dict[str, int] = field(default_factory=dict)
    decimals: dict[str, int] = field(default_factory=dict)
    armed: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A departure as the keeper asks for it, in the contract's words."""

    route: int
    amount: int
    fee: int
    speed: int
    deadline: int
    nonce: int
    value: int = 0


def scaled(amount: int, decimals: int, wanted: int) -> int:
    """Return ``amount`` in units of other decimals, rounded up."""
    if decimals > wanted:
        down: int = -(-amount // 10 ** (decimals - wanted))
        return down
    up: int = amount * 10 ** (wanted - decimals)
    return up


def counted(book: PortBook, now: int) -> int:
    """Return what counts against the rate now: this calendar window and the whole one before."""
    if not book.window_s:
        return 0
    number = now // book.window_s
    if book.window == number:
        return book.before + book.now
    return book.now if book.window + 1 == number else 0


def least_of(row: RouteRow, ask: Ask, decimals: int) -> int:
    """Return the raw units of the token there that must arrive."""
    return scaled(ask.amount - ask.fee, decimals, row.output_decimals)


def departure_broken(
    ask: Ask, book: PortBook, clock: Clock, mandate: Mandate, now: int, block: int
) -> Sequence[Verdict]:
    """Return the rules a departure mined at ``now`` in ``block`` breaks, in the contract's order: it names the first.

    What the keeper's key and a pause stop is not said here. A token that left the portfolio counts as none held.
    """
    found = _before(ask, book, clock, mandate, now, block)
    row = book.rows.get(ask.route, CLOSED)
    if row.kind == 0:
        return [*found, broken("route", f"route {ask.route} is not open")]
    return [*found, *_limits(ask, row, book, now)]


def _before(ask: Ask, book: PortBook, clock: Clock, mandate: Mandate, now: int, block: int) -> list[Verdict]:
    rests = clock.nonce > 0 and (now < clock.last_time + mandate.cooldown_s or block == clock.last_block)
    rules = [
        (now > ask.deadline, "deadline", f"block time {now} is past the deadline {ask.deadline}"),
        (ask.nonce != clock.nonce, "nonce", f"plan nonce {ask.nonce}, the vault expects {clock.nonce}"),
        (book.armed, "armed", "an order is armed: disarm it first"),
        (rests, "cooldown", f"the vault rests until {clock.last_time + mandate.cooldown_s}, it is {now}"),
        (
            book.beneficiary is None or not book.sole,
            "beneficiary",
            "one named account must hold every share before cash leaves for another chain",
        ),
        (book.managed, "fees", "a manager's fee is due in shares: set it to 0 before cash leaves the chain"),
    ]
    return [broken(name, words) for bad, name, words in rules if bad]


def _limits(ask: Ask, row: RouteRow, book: PortBook, now: int) -> list[Verdict]:
    decimals, held = book.decimals.get(row.token, UNIT_DECIMALS), book.held.get(row.token, 0)
    soonest = row.speed + (now if row.kind == ACROSS else 0)
    spent = counted(book, now) + scaled(max(0, ask.amount), decimals, UNIT_DECIMALS)
    ceiling = ask.amount * row.fee_bps // BPS
    rules = [
        (not 0 < ask.amount <= row.max_one, "amount", f"{ask.amount} raw units, 1 to {row.max_one} may leave at once"),
        (
            ask.fee >= ask.amount or ask.fee * BPS > ask.amount * row.fee_bps,
            "bridge fee",
            f"a fee of {ask.fee} raw units, the route allows {ceiling}",
        ),
        (
            not soonest <= ask.speed <= MOST_SPEED,
            "speed",
            f"speed {ask.speed}, {soonest} to {MOST_SPEED} is allowed on this route",
        ),
        (
            row.in_transit + ask.amount > row.max_transit,
            "transit",
            f"{row.in_transit} raw units are on their way, {row.max_transit} may be",
        ),
        (spent > book.budget, "rate", f"{spent} millionths of a token would count, {book.budget} may in any window"),
        (ask.amount > held, "held", f"the vault holds {held} raw units beside claims, {ask.amount} are asked for"),
        (row.kind != OFT and ask.value > 0, "value", "only an OFT's messengers are paid in native coin"),
    ]
    return [broken(name, words) for bad, name, words in rules if bad]

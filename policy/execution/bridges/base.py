"""What a transfer between two of our own vaults is, and the protocol of the bridges that carry it.

Amounts are raw integer units: of the origin's token where money leaves or comes home, of the destination's token where
it arrives. A bridge is looked up and quoted; it never sends. The departure is the vault's own plan (:class:`Port`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lake.errors import ExecutionError
from policy.execution.base import UnsignedTx, Verdict

Speed = Literal["final", "fast"]
Blocks = tuple[int, int]
"""Heights of one look: of the origin, of the destination."""


class WrongUnits(ExecutionError):
    """An amount cannot be said in the other side's units."""


def converted(raw: int, decimals: int, wanted: int) -> tuple[int, int]:
    """Return ``raw`` of ``decimals`` in units of ``wanted`` decimals, and the dust that has no such units.

    The dust is in the units given and stays with the sender; ``raw`` less the dust converts back exactly.
    """
    if raw < 0:
        raise WrongUnits(f"an amount is at least 0 raw units, {raw} was given")
    if wanted >= decimals:
        return raw * 10 ** (wanted - decimals), 0
    whole, dust = divmod(raw, 10 ** (decimals - wanted))
    return whole, dust


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a transfer: our own vault on a chain, and the token that leaves or arrives there."""

    chain_id: int
    vault: str
    token: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money of one asset from our vault on one chain to our vault on another.

    ``amount`` and ``max_fee`` are the origin's raw units, ``least`` the destination's. ``nonce`` is the plan nonce of
    the origin's vault that the departure takes; ``deadline`` (Unix seconds, origin's clock) the last moment it may be
    mined, ``fill_deadline`` (destination's clock, 0 for a bridge without one) the last moment it may be filled.
    ``native_fee_wei`` goes with the departure for the bridge's messengers; what they do not take comes back.
    ``since`` are the heights of both chains when it was planned: nothing of it is in an earlier block.
    """

    saga_id: str  # 0x and 64 hex digits
    kind: str  # a row of lake.universe.BRIDGES
    asset: str
    origin: Side
    destination: Side
    route: int  # of the origin's port
    amount: int
    max_fee: int
    least: int
    nonce: int
    deadline: int
    since: Blocks
    speed: Speed = "final"
    fill_deadline: int = 0
    native_fee_wei: int = 0


@dataclass(frozen=True, slots=True)
class BridgeCaps:
    """What a bridge does by its own rules; adapters declare it, the laws of tests/laws/test_bridge.py hold them to it.

    ``refund``: where an undeliverable transfer ends, ``origin`` with the vault as its beneficiary or ``none`` (it stays
    deliverable for ever). ``receive``: who may deliver. ``finality_needed``: whether the arrival waits for the
    departure's finality at speed ``final``. ``marked``: whether the destination's vault can tell an arrival from a
    gift by its own chain's logs; where it cannot, the count of the cash does by what was looked up.
    """

    kind: str
    refund: Literal["none", "origin"]
    receive: Literal["anyone", "relayer"]
    finality_needed: bool
    partial: bool = False
    per_message_limit: bool = True
    has_deadline: bool = False
    marked: bool = True


@dataclass(frozen=True, slots=True)
class TransferQuote:
    """What a transfer would bring and cost now.

    ``least``: raw units received at least, of the destination; ``fee``: raw units of the origin kept by the bridge.
    ``amount`` is what the bridge would take of the amount asked for: less where a limit or dust cuts it.
    ``native_fee_wei`` is paid in the origin's own coin; gas in units of each chain. ``expires``: Unix seconds.
    """

    amount: int
    least: int
    fee: int
    gas_origin: int
    gas_destination: int
    limit: int
    expires: int
    native_fee_wei: int = 0
    usual_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """What both chains show of a transfer at ``blocks``; only what is there is said, absence proves nothing.

    ``known`` is False where a side could not be read: then nothing else is said. ``departed``: its log is in the
    origin's canonical chain; ``final``: in a block that cannot go away. ``attested``: its message may be delivered once
    ``deliverable``. ``expired``: the destination's clock is past its deadline and nobody can fill it any more.
    ``arrived`` (destination's units) and ``returned`` (origin's) are what OUR vault was credited, by the log of the
    credit in a confirmed block; ``settled_final``: that block is final. ``fee``: kept on the way, origin's units.
    """

    blocks: Blocks
    known: bool = True
    departed: bool = False
    final: bool = False
    tx_hash: str | None = None
    block: int | None = None  # of the departure
    sent: int = 0  # raw units that left, by the log
    message_id: str | None = None
    attested: bool = False
    deliverable: bool = False
    expired: bool = False
    arrived: int = 0
    returned: int = 0
    fee: int = 0
    settled_final: bool = False
    credit_block: int | None = None  # of the arrival on the destination, or of the refund on the origin
    reason: str = ""
    proof: bytes = field(default=b"", repr=False)  # what a delivery carries: message and attestation

    @property
    def moving(self) -> int:
        """The origin's raw units that have left and are in neither vault."""
        return self.sent if self.departed and not self.arrived and not self.returned else 0


def unseen(blocks: Blocks, reason: str) -> Sighting:
    """Return the sighting of a look that failed: it says nothing but why."""
    return Sighting(blocks, known=False, reason=reason)


class Bridge(Protocol):
    """One route's bridge. No method changes anything; all but ``describe`` read both chains."""

    def describe(self) -> BridgeCaps:
        """Return what the bridge does by its own rules."""
        ...

    def quote(self, transfer: Transfer, at: Blocks) -> TransferQuote | Verdict:
        """Return what ``transfer`` would bring at the blocks given, or the verdict that says why nothing."""
        ...

    def preflight(self, transfer: Transfer) -> Sequence[Verdict]:
        """Return the verdicts of both chains that stop a departure; empty means it may go (P2 to P5)."""
        ...

    def find(self, transfer: Transfer) -> Sighting:
        """Look ``transfer`` up at confirmed blocks of both chains. A failed read is a sighting that knows nothing."""
        ...

    def deliver(self, transfer: Transfer, sighting: Sighting) -> UnsignedTx | None:
        """Return the transaction that delivers on the destination, None where that is not ours to do (yet)."""
        ...


@dataclass(frozen=True, slots=True)
class PortRoute:
    """One row of a vault's route table, as its owner set it through the timelock. Amounts: raw units of ``token``."""

    route: int
    kind: str
    target: str
    token: str
    destination: int  # chain id
    recipient: str
    output_token: str
    max_one: int
    max_in_transit: int
    max_fee_bps: int


@dataclass(frozen=True, slots=True)
class Departure:
    """What the keeper asks the port for: a route and amounts. Everything else the vault's contract builds itself."""

    route: int
    amount: int
    max_fee: int
    nonce: int
    deadline: int
    saga_id: str
    speed: Speed = "final"
    fill_deadline: int = 0
    native_fee_wei: int = 0


@dataclass(frozen=True, slots=True)
class Departed:
    """A departure as the origin's chain logged it. ``least``: the destination's raw units."""

    route: int
    nonce: int
    saga_id: str
    amount: int
    least: int
    block: int
    tx_hash: str


@dataclass(frozen=True, slots=True)
class CashChange:
    """Cash that came (positive) or went for another reason than a transfer, raw units, by the log of ``block``.

    ``kind``: start, deposit, withdrawal, trade or gift (what a stranger sent, or any other credit). ``time``: of the
    block of a deposit or withdrawal, Unix seconds; 0 where it was not read.
    """

    block: int
    kind: str
    amount: int
    time: int = 0


class Port(Protocol):
    """The part of a vault by which money leaves for our other vaults, and how that is read."""

    def build_departure(self, departure: Departure) -> UnsignedTx:
        """Encode a departure."""
        ...

    def build_settle(self, transfer: Transfer, *, returned: bool) -> UnsignedTx:
        """Encode the call that frees the route's in-transit counter; it moves no money."""
        ...

    def port_route(self, route: int, block: int | str = "latest") -> PortRoute | None:
        """Return the row of ``route``, None where there is none."""
        ...

    def port_transit(self, route: int, block: int | str = "latest") -> int:
        """Return what the port counts as in transit on ``route``, raw units."""
        ...

    def cash_moves(self, last: int) -> Sequence[CashChange]:
        """Return what moved the cash up to block ``last`` but departures, arrivals and refunds; its start is first."""
        ...

    def forget(self) -> bool:
        """Read logs anew that were remembered between looks; return whether there were any."""
        ...

    def departures(self, first: int, last: int) -> Sequence[Departed]:
        """Return the departures logged in blocks ``first`` to ``last``, both included."""
        ...

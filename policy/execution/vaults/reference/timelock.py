"""What the owner of a reference vault changes, and where each change stands in its timelock.

A change is a call of the vault to itself: announced (``schedule``), and made (``execute``) once its delay is over.
Where it stands is read from the chain, so doing the same again always takes the next step and never one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from eth_utils.crypto import keccak

from lake.evm import BlockHeader, Call, calldata, head_of, read
from lake.rpc import Rpc
from lake.units import BPS
from policy.execution.base import UnsignedTx
from policy.execution.checks.oracle_rules import ALONE, TWAP_0, TWAP_1, PriceSource
from policy.execution.checks.rules import Mandate
from policy.execution.vaults.reference.deployment import (
    SET_BUDGETS,
    SET_MANDATE,
    TokenSource,
    encode_budgets,
    encode_mandate,
)

GRACE_S = 14 * 86_400
"""How long after it is ready a change can be made (contracts/roles.vy)."""
SET_TARGETS, SET_TOKENS = "set_targets(uint256[])", "set_tokens(address[],uint256[],uint256[],address)"
SET_ROLE, RESUME = "set_role(uint256,address)", "resume()"
NEW, WAITING, READY, LAPSED = "new", "waiting", "ready", "lapsed"
"""Where a change can stand: not announced, in its delay, to be made now, or too late: announced anew."""
KEEPER, GUARDIAN = 1, 2
"""Numbers of roles that ``set_role`` knows."""


@dataclass(frozen=True, slots=True)
class TimelockedCall:
    """A call of the vault to itself; ``words`` says it to people."""

    words: str
    data: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        """What the vault calls it."""
        return bytes(keccak(self.data))


@dataclass(frozen=True, slots=True)
class AnnouncedChange:
    """Where a change stands: ``state`` is new, waiting, ready or lapsed; ``ready_at`` in Unix seconds, 0 where new."""

    change: TimelockedCall
    state: str
    ready_at: int

    def next(self, vault: str, chain_id: int) -> UnsignedTx | None:
        """Return the owner's next call: announce it, make it, or None while its delay runs."""
        if self.state == WAITING:
            return None
        call = "execute(bytes)" if self.state == READY else "schedule(bytes)"
        return UnsignedTx(chain_id, vault, calldata(call, self.change.data))


def announced(
    rpc: Rpc, vault: str, changes: Sequence[TimelockedCall], head: BlockHeader | None = None
) -> list[AnnouncedChange]:
    """Return where each change stands at ``head`` (None: the newest block)."""
    at = head or head_of(rpc)
    asks = [Call(vault, "ready_at(bytes32)", "uint256", (c.id,)) for c in changes]
    times = [int(str(row[0])) for row in read(rpc, asks, at.hash)]
    return [AnnouncedChange(c, state_at(ready, at.time), ready) for c, ready in zip(changes, times, strict=True)]


def state_at(ready_at: int, now: int) -> str:
    """Return the state of a change that is ready at ``ready_at`` (0: not announced), by the contract's rule."""
    if ready_at == 0:
        return NEW
    if now < ready_at:
        return WAITING
    return READY if now <= ready_at + GRACE_S else LAPSED


def to_targets(now: Sequence[int], wanted: Sequence[int], names: Sequence[str]) -> list[TimelockedCall]:
    """Return the change to other targets in basis points; none where they are there."""
    if tuple(now) == tuple(wanted):
        return []
    told = ", ".join(f"{n} {a / 100:g} -> {b / 100:g} %" for n, a, b in zip(names, now, wanted, strict=True) if a != b)
    return [TimelockedCall(f"targets: {told}", calldata(SET_TARGETS, list(wanted)))]


def to_mandate(now: Mandate, wanted: Mandate) -> list[TimelockedCall]:
    """Return the changes to other limits and loss budgets; none where they are there."""
    found = []
    pairs = ((SET_MANDATE, encode_mandate, "limits of a plan"), (SET_BUDGETS, encode_budgets, "loss budgets"))
    for signature, encoded, words in pairs:
        if encoded(now) != encoded(wanted):
            told = f"{words}: {encoded(now)} -> {encoded(wanted)}"
            found.append(TimelockedCall(told, calldata(signature, encoded(wanted))))
    return found


def to_role(role: int, account: str) -> TimelockedCall:
    """Return the change that gives KEEPER's or GUARDIAN's role to ``account``."""
    return TimelockedCall(f"{'keeper' if role == KEEPER else 'guardian'}: {account}", calldata(SET_ROLE, role, account))


def without(targets_bps: Sequence[int], i: int) -> tuple[int, ...]:
    """Return the targets with token ``i`` at 0 and its share spread over the others in proportion, summing to BPS."""
    rest = BPS - targets_bps[i]
    if not rest:
        raise ValueError("a token that is the whole portfolio has nobody to leave its share to")
    exact = [0 if j == i else t * BPS for j, t in enumerate(targets_bps)]
    found = [e // rest for e in exact]
    for j in sorted(range(len(found)), key=lambda j: -(exact[j] % rest)):
        found[j] += sum(found) < BPS and j != i
    return tuple(found)


def sources_without(sources: Sequence[PriceSource], i: int) -> list[TokenSource]:
    """Return the oracle's sources without token ``i``; an average that was quoted in it is given up."""
    found = []
    for j, source in enumerate(sources):
        if j == i:
            continue
        made = TokenSource(
            source.token, source.decimals, 0, source.feed, source.heartbeat_s, source.feed_decimals, source.second,
            source.second_s, source.second_detail, source.deviation_bps, source.second_kind,
        )  # fmt: skip
        if made.second_kind in (TWAP_0, TWAP_1) and made.second_detail == i:
            made = replace(
                made, second="0x" + "0" * 40, second_s=0, second_detail=0, deviation_bps=0, second_kind=ALONE
            )
        elif made.second_kind in (TWAP_0, TWAP_1) and made.second_detail > i:
            made = replace(made, second_detail=made.second_detail - 1)
        found.append(made)
    return found

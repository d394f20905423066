"""What a look at transfers is given: one end a chain, the routes' bridges, the journal, the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lake.errors import ExecutionError
from lake.universe import Chain
from policy.execution.base import Snapshot, Token, UnsignedTx
from policy.execution.bridges.base import Bridge, Port, Transfer
from policy.execution.records.halt import Halted, never
from policy.execution.submission.channels import Channel
from policy.execution.submission.gas import FeeRules, fee_rules
from policy.execution.submission.node import Node
from policy.execution.submission.signer import Signer
from policy.execution.transfers.journal import TransferLog

RouteKey = tuple[str, int, int]
"""Kind of bridge, chain it leaves, chain it goes to."""


class PortVault(Port, Protocol):
    """What a transfer needs of a vault: its port, a snapshot, and what moved its cash."""

    def snapshot(self, block: int | str = "latest") -> Snapshot:
        """Read holdings, prices and nonce at one block."""
        ...


class Refused(ExecutionError):
    """A transaction would revert if it were sent; the words are the chain's."""


def _free() -> str:
    return ""


def _pass(_: str) -> None:
    """Pass a checkpoint."""


@dataclass(frozen=True, slots=True)
class End:
    """One chain of the portfolio. ``cash``: the asset that moves, as this chain's token.

    ``estimate`` returns the gas a call of ``sender`` uses now, Refused where it would revert. ``busy`` says why the
    account may not sign now (a plan in flight), empty where it may. ``sequencer``: words where the roll-up's sequencer
    is down or came back within its grace, empty where all is well.
    """

    chain: Chain
    node: Node
    vault: PortVault
    address: str
    cash: Token
    sender: str
    channel: Channel
    estimate: Callable[[UnsignedTx], int]
    signer: Signer | None = None
    busy: Callable[[], str] = _free
    sequencer: Callable[[], str] = _free

    @property
    def gas(self) -> FeeRules:
        """The chain's fee rules."""
        return fee_rules(self.chain)


@dataclass(frozen=True, slots=True)
class TransferRules:
    """Bounds of transfers; shares are of the whole portfolio W, times in seconds.

    ``max_in_transit_share``: of all bridges; ``max_bridge_day_share``: of one bridge in any 24 hours; ``max_share``: of
    one transfer, which ``max_usd`` bounds in USD by route too. ``max_open``: transfers open in all. ``overdue_s``: by
    kind of bridge, or its row's. ``stuck_factor`` times the usual time a transfer is stuck; a refund
    ``refund_stuck_s`` after it is due. ``unverified_haircut``: of a stuck transfer that nobody attested for a day, in
    the reported NAV only. ``fast_part``: a fast transfer's greatest part of a route's most. ``dear``: how many times
    the usual fee is refused.
    """

    max_share: float = 0.05
    max_in_transit_share: float = 0.10
    max_bridge_day_share: float = 0.10
    max_open: int = 3
    max_usd: Mapping[RouteKey, float] = field(default_factory=dict)
    overdue_s: Mapping[str, float] = field(default_factory=dict)
    stuck_factor: float = 5.0
    refund_stuck_s: float = 86_400.0
    unverified_haircut: float = 0.5
    fast_part: float = 0.1
    dear: float = 3.0
    clock_gap_s: int = 120
    final_age_s: int = 600
    oracle_gap: float = 0.005
    quote_age_s: int = 5_400
    bump_after: int = 3
    least_delivery_gas: int = 350_000
    delivery_tries: int = 2
    deadline_s: int = 1_800
    fill_s: int = 14_400


@dataclass(frozen=True, slots=True)
class TransferContext:
    """Everything the machine works with. ``live=False``: it looks and sends nothing.

    ``second`` are the routes' bridges over another operator's nodes: a departure is called void only where both see
    none. ``halted`` is asked before anything is signed or sent. ``told`` takes alarms (name, saga id, words).
    ``checkpoint`` is called at every stage (tests stop there).
    """

    ends: Mapping[int, End]
    bridges: Mapping[RouteKey, Bridge]
    log: TransferLog
    rules: TransferRules = field(default_factory=TransferRules)
    live: bool = False
    second: Mapping[RouteKey, Bridge] = field(default_factory=dict)
    told: Callable[[str, str, str], None] = lambda *_: None
    checkpoint: Callable[[str], None] = _pass
    halted: Halted = never

    @property
    def sends(self) -> bool:
        """Whether anything may be signed or sent just now: a live run, and nobody has stopped trading."""
        return self.live and self.halted() is None

    def bridge(self, transfer: Transfer) -> Bridge:
        """Return the bridge of a transfer; ExecutionError where its route is configured no more."""
        key = route_key(transfer)
        if key not in self.bridges:
            raise ExecutionError(
                f"no [[bridges]] row is of kind {key[0]} from chain {key[1]} to {key[2]}, and transfer "
                f"{transfer.saga_id[:12]} is on that route; configure it until the transfer is settled"
            )
        return self.bridges[key]

    def end(self, chain_id: int) -> End:
        """Return the end on ``chain_id``; ExecutionError where it is configured no more."""
        if chain_id not in self.ends:
            raise ExecutionError(f"chain {chain_id} is not configured and a transfer needs it; add its [[chains]]")
        return self.ends[chain_id]


def route_key(transfer: Transfer) -> RouteKey:
    """Return the key of a transfer's route."""
    return transfer.kind, transfer.origin.chain_id, transfer.destination.chain_id


def settings_json(rules: TransferRules) -> dict[str, Any]:
    """Return the limits as reports show them."""
    return {k: getattr(rules, k) for k in ("max_share", "max_in_transit_share", "max_bridge_day_share", "max_open")}

"""Records of the execution path and the Vault protocol. All amounts are raw integer token units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lake.errors import ExecutionError
from lake.units import Bps
from policy.execution.auctions.orders import Order

PPB_OF_BP = 100_000
"""Billionths in a basis point."""


class OtherVault(ExecutionError):
    """A plan or a journal is another vault's, another chain's, or of a chain that was begun anew since."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check and its outcome. ``figures`` holds what was measured and what was required, as shown to people."""

    check: str  # snake_case name of the check, e.g. "oracle_stale"
    ok: bool
    reason: str
    figures: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """An ERC-20 token with its price feed. ``price_e8`` fields elsewhere are USD x 1e8."""

    symbol: str
    address: str
    decimals: int
    feed: str | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """One pool on a path."""

    venue: str  # a name of lake.venues
    pool: str
    token_in: str
    token_out: str
    fee_pips: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One swap of the plan: spends at most ``amount_in``, must receive at least ``min_out``."""

    token_in: str
    token_out: str
    amount_in: int
    min_out: int
    quoted_out: int
    path: tuple[Hop, ...]
    target: str  # allow-listed contract called
    calldata: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class Plan:
    """One atomic mandated rebalance. ``plan_hash`` is the one the chain recomputes over the legs.

    With an ``order`` it offers its one leg to others: ``plan_hash`` is the order's digest, ``deadline`` its expiry.
    """

    decision_id: str
    vault: str
    chain_id: int
    nonce: int  # plan nonce of the vault, not the account nonce
    deadline: int  # unix seconds
    min_nav: int  # vault accounting units
    legs: tuple[Leg, ...]
    plan_hash: bytes
    block_number: int
    block_hash: str
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """An oracle price at the snapshot's block."""

    token: str
    price_e8: int
    round_id: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Flows:
    """Holders' money on its way, raw units of the accounting asset.

    ``coming``: deposits requested that the portfolio does not hold yet; ``leaving``: withdrawals requested that it will
    have to pay; ``reserve``: cash to keep for withdrawals nobody has asked for yet, by forecast.
    """

    coming: int = 0
    leaving: int = 0
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a decision reads from the chain, at ONE block."""

    chain_id: int
    block_number: int
    block_hash: str
    block_time: int
    base_fee_wei: int
    tokens: tuple[Token, ...]
    holdings: tuple[int, ...]
    quotes: tuple[Quote, ...]
    targets_bps: tuple[int, ...]
    nav: int  # vault accounting units
    supply: int
    plan_nonce: int
    paused: bool
    max_turnover_bps: Bps
    loss_budget_left: int  # vault accounting units
    verdicts: tuple[Verdict, ...] = ()
    max_legs: int = 8  # most legs of one plan
    flows: Flows | None = None  # None: nobody can ask for later


@dataclass(frozen=True, slots=True)
class Exposure:
    """The most a stolen keeper's key takes, billionths of NAV: in any day, in any 90 days, and for ever.

    For ever: until the owner resumes the vault anew, which pauses itself before. At the oracle's prices; what a
    lagging oracle adds is bounded by the turnover of one-way trades towards the targets.
    """

    day_ppb: int
    quarter_ppb: int
    ever_ppb: int

    def words(self) -> str:
        """Return the three as people read them."""
        day, quarter, ever = (f"{x / PPB_OF_BP:g} bp" for x in (self.day_ppb, self.quarter_ppb, self.ever_ppb))
        return f"a stolen keeper's key takes at most {day} of NAV in a day, {quarter} in 90 days, {ever} for ever"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a vault enforces ON CHAIN; what it does not, the Python side enforces and the report says so."""

    kind: str
    atomic_legs: bool
    onchain_price_bound: bool
    loss_budget: bool
    progress_rule: bool
    plan_nonce: bool
    deadline: bool
    async_exit: bool
    in_kind_exit: bool
    pausable: bool
    permissioned: bool
    stolen_key: Exposure | None = None  # None: the chain bounds nothing, a stolen key takes everything
    bridges: bool = False  # has a port (policy.execution.bridges.base.Port): money may leave for our other vaults


@dataclass(frozen=True, slots=True)
class UnsignedTx:
    """A transaction without gas bid and nonce of the account; those are the sender's."""

    chain_id: int
    to: str
    data: bytes = field(repr=False)
    value: int = 0


@dataclass(frozen=True, slots=True)
class Simulation:
    """Outcome of a dry execution at the snapshot's block."""

    ok: bool
    gas_used: int
    deltas: Mapping[str, int]  # token address -> change of the vault's balance
    revert: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mined transaction as the node reports it."""

    tx_hash: str
    block_number: int
    block_hash: str
    status: int
    gas_used: int
    effective_gas_price_wei: int
    logs: Sequence[Mapping[str, object]] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Settlement:
    """What really happened, from balances and logs, never from the quote."""

    landed: bool
    deltas: Mapping[str, int]
    nav_before: int
    nav_after: int
    gas_used: int
    gas_cost_wei: int
    weights_after_bps: tuple[int, ...]
    verdicts: tuple[Verdict, ...] = ()


class BlockHead(Protocol):
    """A block's identity, time and base fee."""

    @property
    def number(self) -> int:
        """Height."""
        ...

    @property
    def hash(self) -> str:
        """Hash, 0x hex."""
        ...

    @property
    def time(self) -> int:
        """Unix seconds."""
        ...

    @property
    def base_fee_wei(self) -> int:
        """Base fee, wei per gas."""
        ...


class AttemptFate(StrEnum):
    """Where an attempt stands when it is looked up."""

    LANDED = "landed"
    REPLACEABLE = "replaceable"  # not mined, may still be: bump or cancel, never resend blindly
    VOID = "void"  # its nonce or deadline is gone; it can never land


class Vault(Protocol):
    """A portfolio that executes atomic mandated plans."""

    def describe(self) -> Capabilities:
        """Return what the vault enforces on chain."""
        ...

    def snapshot(self, block: int | str = "latest") -> Snapshot:
        """Read holdings, prices, mandate and budget at one block hash."""
        ...

    def seal(self, plan: Plan) -> Plan:
        """Return ``plan`` with ``plan_hash`` set to the hash the chain recomputes over its legs.

        The legs arrive complete (target and calldata set by ``routing.calldata``), ``plan_hash`` empty.
        """
        ...

    def check(self, plan: Plan) -> Sequence[Verdict]:
        """Return the failed mandate rules by the chain's own integer arithmetic; empty means it would pass."""
        ...

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the plan."""
        ...

    def simulate(self, tx: UnsignedTx, sender: str, block: int | str = "latest") -> Simulation:
        """Execute without sending."""
        ...

    def verify(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Judge a mined plan from balances and logs."""
        ...

    def executed_by(self, plan: Plan) -> str | None:
        """Return the transaction, whoever sent it, in which the vault says it executed ``plan`` or armed its order."""
        ...

    def recover(self, plan: Plan, tx_hashes: Sequence[str]) -> AttemptFate:
        """Look up what became of earlier attempts of ``plan``."""
        ...

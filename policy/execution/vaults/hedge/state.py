"""What a hedge account holds and is held to, all read at one block; chain integers with the floats decisions use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_utils.address import to_checksum_address

from lake.evm import BlockHeader, Call, read
from lake.rpc import Rpc
from policy.execution.base import Token

WAD = 10**18
E8 = 10**8
PPB = 10**9
BPS = 10_000
GOOD, STALE, NO_PRICE, EXPIRED = range(4)
SOURCE_WORDS = {
    GOOD: "good",
    STALE: "older than its greatest age, or paused",
    NO_PRICE: "not computed: the oracle's price is not good",
    EXPIRED: "of a book with an expired option: settle it and take its line out",
}
_STANDING = "uint256,uint256,int256,int256,uint256"
_LIMITS = ",".join(["uint256"] * 8)


@dataclass(frozen=True, slots=True)
class HedgeStanding:
    """Raw cash and spot, size of the perpetual (x 1e18), equity there and NAV (raw cash)."""

    cash: int
    spot: int
    size: int
    equity: int
    nav: int


@dataclass(frozen=True, slots=True)
class HedgeLimits:
    """The keeper's limits, as ``Limits`` of contracts/hedge_account.vy."""

    leg_loss_bps: int = 50
    cross_bps: int = 10
    max_hedge_bps: int = 20_000
    margin_bps: int = 1_500
    venue_bps: int = 5_000
    cooldown_s: int = 0
    budget_ppb: int = 10_000_000
    window_s: int = 86_400

    def encoded(self) -> tuple[int, ...]:
        """Return the fields in the contract's order."""
        return (
            self.leg_loss_bps, self.cross_bps, self.max_hedge_bps, self.margin_bps, self.venue_bps, self.cooldown_s,
            self.budget_ppb, self.window_s,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PerpTerms:
    """Of the perpetual: funding an eight hours (x 1e18, longs pay), spread, taker fee and margins in bps."""

    funding: int
    spread_bps: int
    fee_bps: int
    initial_bps: int
    maintenance_bps: int
    halted: bool


@dataclass(frozen=True, slots=True)
class HedgeLayout:
    """What never changes about an account."""

    chain_id: int
    cash: Token
    asset: Token
    oracle: str
    perp: str


@dataclass(frozen=True, slots=True)
class BookLine:
    """A line of the delta source: kind (0 call, 1 put, 2 pool, 3 linear), x 1e18; ``last`` expiry or upper price."""

    kind: int
    quantity: int
    strike: int
    last: int
    vol: int


@dataclass(frozen=True, slots=True)
class HedgeState:
    """The account at ``head``. ``book`` is the book's delta less what is wanted (x 1e18); prices USD x 1e8, 0: bad."""

    head: BlockHeader
    layout: HedgeLayout
    standing: HedgeStanding
    book: int
    posted_at: int
    source_verdict: int
    cash_price: int
    price: int
    nonce: int
    last_plan: int
    limits: HedgeLimits
    lost_ppb: int
    paused: bool
    terms: PerpTerms
    maintenance: int  # raw cash
    lines: tuple[BookLine, ...]
    wanted: int
    price_code: int = 0  # of the oracle's verdicts, the first that is not good

    @property
    def price_usd(self) -> float:
        """USD an underlying."""
        return self.price / E8

    @property
    def nav_usd(self) -> float:
        """NAV of the account in USD."""
        return float(self.standing.nav / 10**self.layout.cash.decimals) * self.cash_price / E8

    @property
    def hedge_units(self) -> float:
        """Spot and perpetual, underlying."""
        return float(self.standing.spot / 10**self.layout.asset.decimals) + self.standing.size / WAD

    @property
    def net_units(self) -> float:
        """Net delta less the wanted one, underlying."""
        return self.hedge_units + self.book / WAD

    @property
    def notional_raw(self) -> int:
        """Worth of the perpetual's position, raw cash."""
        unit = 10**self.layout.cash.decimals
        return abs(self.standing.size) * self.price * unit // (WAD * self.cash_price) if self.cash_price else 0


def _line(row: tuple[int, int, int, int], vol: int) -> BookLine:
    kind, quantity, strike, last = row
    return BookLine(kind, quantity, strike, last, vol)


def read_hedge_layout(rpc: Rpc, address: str, chain_id: int) -> HedgeLayout:
    """Read what never changes."""
    names = ("CASH()", "ASSET()", "ORACLE()", "PERP()")
    found = [to_checksum_address(str(row[0])) for row in read(rpc, [Call(address, n, "address") for n in names])]
    asks = [Call(t, n, k) for t in found[:2] for n, k in (("symbol()", "string"), ("decimals()", "uint8"))]
    told: list[Any] = [row[0] for row in read(rpc, asks)]
    cash, asset = (Token(str(told[2 * i]), found[i], int(told[2 * i + 1])) for i in range(2))
    return HedgeLayout(chain_id, cash, asset, found[2], found[3])


def read_hedge_state(rpc: Rpc, address: str, layout: HedgeLayout, head: BlockHeader) -> HedgeState:
    """Read the account at the block of ``head``; two rounds, both at its hash."""
    asks = [
        Call(address, "standing()", f"{_STANDING},int256,uint256,uint256,uint256,uint256,uint256"),
        Call(address, "clock()", "uint256,uint256"),
        Call(address, "limits()", _LIMITS),
        Call(address, "lost_ppb()", "uint256"),
        Call(address, "paused()", "bool"),
        Call(address, "source()", "address"),
        Call(address, "wanted()", "int256"),
        Call(layout.perp, "terms()", "int256,int256,int256,int256,int256,bool"),
        Call(layout.oracle, "quotes()", "uint256[]"),
    ]
    rows: list[Any] = [tuple(row) for row in read(rpc, asks, head.hash)]
    kinds = "(uint256,int256,uint256,uint256)[],uint256[]"
    lines: Any = read(rpc, [Call(rows[5][0], "lines()", kinds)], head.hash)[0]
    s = rows[0]
    return HedgeState(
        head=head, layout=layout, standing=HedgeStanding(*s[:5]), book=s[5], posted_at=s[6], source_verdict=s[7],
        cash_price=s[8], price=s[9], nonce=rows[1][0], last_plan=rows[1][1], limits=HedgeLimits(*rows[2]),
        lost_ppb=rows[3][0], paused=bool(rows[4][0]), terms=PerpTerms(*rows[7]), maintenance=s[10],
        lines=tuple(_line(row, vol) for row, vol in zip(*lines, strict=True)), wanted=rows[6][0],
        price_code=next((code for q in rows[8][0] if (code := int(q) >> 192)), 0),
    )  # fmt: skip

"""What a portfolio holds on a chain, as rows of positions, rates and perps, all read at one confirmed block.

Balances, a yield token's exchange rate (``stEthPerToken``), Uniswap v3 positions, and accounts at markets with the
interface of the local chain's perpetual and option markets. A position that is gone is an error that names it: a book
without it would be another book.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import polars as pl

from lake.answers import quantity
from lake.errors import RpcError, SourceError
from lake.evm import BlockHeader, Call, head_of, read, try_read
from lake.rpc import Rpc
from lake.sources.base import Source
from lake.tables import TABLES
from lake.units import to_word
from lake.universe import STABLE, Chain

WAD = 10**18
E8 = 10**8
MOST_SERIES = 8
_MOST_RAW = 2**128 - 1
_V3 = "uint96,address,address,address,uint24,int24,int24,uint128"
EIGHT_HOURS_S = 28_800


@dataclass(frozen=True, slots=True)
class Holdings:
    """Where to look: tokens by asset (dollar coins are cash), yield tokens and markets by underlying."""

    holder: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    yields: Mapping[str, str] = field(default_factory=dict)
    v3_manager: str | None = None
    v3_ids: Sequence[int] = ()
    perps: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _ChainSource(ABC):
    """Reads a table's rows once, at the newest block that is ``confirmations`` deep."""

    table: ClassVar[str]

    rpc: Rpc
    chain: Chain
    portfolio: str
    given: Holdings
    confirmations: int = 2
    step_s: None = None

    @property
    def name(self) -> str:
        """``<table>:<portfolio>``."""
        return f"{self.table}:{self.portfolio}"

    @property
    def series(self) -> Mapping[str, str | int]:
        """What all rows have in common: nothing, unless said otherwise."""
        return {}

    def collect(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """Yield the rows of now, if now is within the span."""
        head = self._head()
        at = datetime.fromtimestamp(head.time, UTC)
        rows = self._rows(head) if start <= at < end else []
        if rows:
            columns = TABLES[self.table].columns
            whole = [{c: {"ts": at, "available_at": at, **r}.get(c) for c in columns} for r in rows]
            yield pl.DataFrame(whole, schema=columns)

    def _head(self) -> BlockHeader:
        self.rpc.expect_chain(self.chain.chain_id)
        number = max(0, quantity(self.rpc.call("eth_blockNumber")) - self.confirmations)
        return head_of(self.rpc, number, fees=False)

    @abstractmethod
    def _rows(self, head: BlockHeader) -> list[dict[str, Any]]:
        """Return the rows at ``head``, without their times."""


class PositionsSource(_ChainSource):
    """Rows of positions of one portfolio."""

    table = "positions"

    @property
    def series(self) -> Mapping[str, str | int]:
        """The portfolio."""
        return {"portfolio": self.portfolio}

    def _rows(self, head: BlockHeader) -> list[dict[str, Any]]:
        g = self.given
        decimals = self._decimals(head)
        found = [r for asset, token in g.tokens.items() for r in self._balance(asset, token, decimals[token], head)]
        for asset, token in g.yields.items():
            (raw,) = read(self.rpc, [Call(token, "balanceOf(address)", "uint256", (g.holder,))], head.hash)[0]
            found.append({"position_id": f"yield {token}", "kind": "yield", "asset": asset,
                          "quantity": int(str(raw)) / WAD, "contract": token})  # fmt: skip
        for i in g.v3_ids:
            found += self._pool(i, decimals, head)
        found += [self._perp(asset, market, head) for asset, market in g.perps.items()]
        found += [r for asset, market in g.options.items() for r in self._options(asset, market, head)]
        return [{"portfolio": self.portfolio, "chain_id": self.chain.chain_id, **r} for r in found]

    def _decimals(self, head: BlockHeader) -> dict[str, int]:
        tokens = list(self.given.tokens.values())
        rows = read(self.rpc, [Call(t, "decimals()", "uint8") for t in tokens], head.hash)
        return {t: int(str(row[0])) for t, row in zip(tokens, rows, strict=True)}

    def _balance(self, asset: str, token: str, decimals: int, head: BlockHeader) -> list[dict[str, Any]]:
        (raw,) = read(self.rpc, [Call(token, "balanceOf(address)", "uint256", (self.given.holder,))], head.hash)[0]
        kind = "stable" if asset in STABLE else "spot"
        held = {"position_id": f"balance {asset}", "kind": kind, "quantity": int(str(raw)) / 10**decimals}
        return [held | ({} if kind == "stable" else {"asset": asset})]

    def _pool(self, number: int, decimals: Mapping[str, int], head: BlockHeader) -> list[dict[str, Any]]:
        """Return the position and, as rows of their own, the fees it has earned and not collected."""
        manager = str(self.given.v3_manager)
        asks = [Call(manager, name, kind, (number,))
                for name, kind in (("ownerOf(uint256)", "address"), ("positions(uint256)", _V3))]  # fmt: skip
        owner, row = try_read(self.rpc, asks, head.hash)
        if isinstance(owner, RpcError) or isinstance(row, RpcError):
            raise SourceError(f"position {number} of {manager} is gone: it was burnt; take it out of v3_ids")
        if str(owner[0]).lower() != self.given.holder.lower():
            raise SourceError(f"position {number} of {manager} belongs to {owner[0]}, not to {self.given.holder}")
        named = {t.lower(): a for a, t in self.given.tokens.items()}
        sides = [named.get(str(t).lower()) for t in row[2:4]]
        base = [i for i, a in enumerate(sides) if a is not None and a not in STABLE]
        if len(base) != 1 or None in sides:
            raise SourceError(
                f"position {number} is of {row[2]} and {row[3]}: tokens must name both, one a dollar coin, one an asset"
            )
        by_asset = {a: decimals[t] for a, t in self.given.tokens.items()}
        asset, quote = str(sides[base[0]]), str(sides[1 - base[0]])
        pool = {"position_id": f"v3 {number}", "kind": "lp_v3", "asset": asset, "tick_lower": row[5],
                "tick_upper": row[6], "liquidity_raw": to_word(int(str(row[7]))), "base_token": base[0],
                "base_decimals": by_asset[asset], "quote_decimals": by_asset[quote], "contract": manager}  # fmt: skip
        owed = self._fees(number, head)
        if base[0] == 1:
            owed = owed[::-1]
        earned = {"position_id": f"v3 {number} fees {asset}", "kind": "spot", "asset": asset,
                  "quantity": owed[0] / 10 ** by_asset[asset]}  # fmt: skip
        cash = {"position_id": f"v3 {number} fees {quote}", "kind": "stable",
                "quantity": owed[1] / 10 ** by_asset[quote]}  # fmt: skip
        return [pool, *(r for r in (earned, cash) if r["quantity"])]

    def _fees(self, number: int, head: BlockHeader) -> tuple[int, int]:
        """Return what collecting would pay the holder now, raw by token: fees up to this block, and what was burnt."""
        ask = (number, self.given.holder, _MOST_RAW, _MOST_RAW)
        call = Call(str(self.given.v3_manager), "collect((uint256,address,uint128,uint128))", "uint256,uint256", (ask,),
                    self.given.holder)  # fmt: skip
        first, second = read(self.rpc, [call], head.hash)[0]
        return int(str(first)), int(str(second))

    def _perp(self, asset: str, market: str, head: BlockHeader) -> dict[str, Any]:
        """Equity stands for margin and the present price for entry: the market settles profits into it."""
        size, equity, feed, unit = _account(self.rpc, market, self.given.holder, head)
        return {"position_id": f"perp {asset}", "kind": "perp", "asset": asset, "venue": market,
                "quantity": size / WAD, "entry_price": feed / E8, "margin": equity / unit}  # fmt: skip

    def _options(self, asset: str, market: str, head: BlockHeader) -> list[dict[str, Any]]:
        g = self.given
        listed = _series(self.rpc, market, head)
        asks = [Call(market, "size(address,uint256)", "int256", (g.holder, i)) for i in range(len(listed))]
        sizes = [int(str(row[0])) for row in read(self.rpc, asks, head.hash)]
        (cash,) = read(self.rpc, [Call(market, "cash(address)", "int256", (g.holder,))], head.hash)[0]
        found: list[dict[str, Any]] = [
            {"position_id": f"option {i}", "kind": "option", "asset": asset, "venue": market, "quantity": size / WAD,
             "strike": strike / WAD, "expiry": datetime.fromtimestamp(expiry, UTC), "option_kind": "c" if call else "p",
             "settle": "usd"}
            for i, ((call, strike, expiry, _), size) in enumerate(zip(listed, sizes, strict=True)) if size
        ]  # fmt: skip
        unit = _unit(self.rpc, market, head)
        return [*found, {"position_id": f"cash at {market}", "kind": "stable", "quantity": int(str(cash)) / unit}]


class RatesSource(_ChainSource):
    """The exchange rate of each yield token."""

    table = "rates"

    @property
    def series(self) -> Mapping[str, str | int]:
        """The chain."""
        return {"chain_id": self.chain.chain_id}

    def _rows(self, head: BlockHeader) -> list[dict[str, Any]]:
        tokens = list(self.given.yields.values())
        found = read(self.rpc, [Call(t, "stEthPerToken()", "uint256") for t in tokens], head.hash)
        return [{"chain_id": self.chain.chain_id, "token": t, "rate": int(str(row[0])) / WAD}
                for t, row in zip(tokens, found, strict=True)]  # fmt: skip


class PerpsSource(_ChainSource):
    """Mark, funding and fee of each perpetual market."""

    table = "perps"

    def _rows(self, head: BlockHeader) -> list[dict[str, Any]]:
        return [self._market(asset, market, head) for asset, market in self.given.perps.items()]

    def _market(self, asset: str, market: str, head: BlockHeader) -> dict[str, Any]:
        _, _, feed, _ = _account(self.rpc, market, self.given.holder, head)
        funding, _, fee, *_ = read(self.rpc, [Call(market, "terms()", "int256,int256,int256")], head.hash)[0]
        return {"venue": market, "asset": asset, "mark": feed / E8, "index": feed / E8,
                "funding_rate": int(str(funding)) / WAD, "interval_s": EIGHT_HOURS_S,
                "taker_fee": int(str(fee)) / 10_000}  # fmt: skip


class OptionsSource(_ChainSource):
    """The listed options of each option market, priced at its posted volatility; their premiums are in USD."""

    table = "options"

    def _rows(self, head: BlockHeader) -> list[dict[str, Any]]:
        found = []
        for asset, market in self.given.options.items():
            price = _price(self.rpc, market, head) / E8
            for call, strike, expiry, vol in _series(self.rpc, market, head):
                if expiry > head.time:
                    found.append({"venue": market, "asset": asset, "expiry": datetime.fromtimestamp(expiry, UTC),
                                  "strike": strike / WAD, "kind": "c" if call else "p", "quote": "usd",
                                  "mark_iv": vol / WAD, "forward": price})  # fmt: skip
        return found


def _price(rpc: Rpc, market: str, head: BlockHeader) -> int:
    (feed,) = read(rpc, [Call(market, "FEED()", "address")], head.hash)[0]
    return int(str(read(rpc, [Call(str(feed), "latestRoundData()", "uint80,int256")], head.hash)[0][1]))


def _unit(rpc: Rpc, market: str, head: BlockHeader) -> int:
    (cash,) = read(rpc, [Call(market, "CASH()", "address")], head.hash)[0]
    return int(10 ** int(str(read(rpc, [Call(str(cash), "decimals()", "uint8")], head.hash)[0][0])))


def _account(rpc: Rpc, market: str, holder: str, head: BlockHeader) -> tuple[int, int, int, int]:
    """Return size (x 1e18), equity (raw cash), price (x 1e8) and what a dollar of cash is in raw units."""
    size, equity = read(rpc, [Call(market, "account(address)", "int256,int256", (holder,))], head.hash)[0]
    return int(str(size)), int(str(equity)), _price(rpc, market, head), _unit(rpc, market, head)


def _series(rpc: Rpc, market: str, head: BlockHeader) -> list[tuple[bool, int, int, int]]:
    """Return (call, strike, expiry, volatility) of every series; the list ends where the market has no more."""
    kinds = "bool,uint256,uint256,uint256"
    rows = try_read(rpc, [Call(market, "series(uint256)", kinds, (i,)) for i in range(MOST_SERIES)], head.hash)
    out = []
    for row in rows:
        if isinstance(row, RpcError):
            if row.code is None:  # the node failed, not the series
                raise row
            break
        call, strike, expiry, vol = row
        out.append((bool(call), int(str(strike)), int(str(expiry)), int(str(vol))))
    return out


def position_sources(rpc: Rpc, chain: Chain, portfolio: str, given: Holdings) -> list[Source]:
    """Return the sources of one portfolio on one chain."""
    what = (rpc, chain, portfolio, given)
    found: list[Source] = [PositionsSource(*what)]
    found += [RatesSource(*what)] if given.yields else []
    found += [PerpsSource(*what)] if given.perps else []
    found += [OptionsSource(*what)] if given.options else []
    return found

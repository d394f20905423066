"""A book to hedge on the local market: a short straddle, a pool position and a yield token, with a hedge account.

Adds option and perpetual markets (from which the book is made), a staking token's exchange rate, a delta source that
computes the book's delta, and the hedge account with cash in it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import decode
from eth_utils.crypto import keccak

from lake.evm import Call, calldata, read
from lake.venues import TICKS_CALLS
from policy.execution.contracts.compile import source_digest
from policy.execution.vaults.hedge.deployment import (
    AccountSetup,
    SourceBounds,
    SourceSetup,
    account_code,
    source_code,
)
from policy.execution.vaults.hedge.state import WAD, BookLine, HedgeLimits
from policy.execution.vaults.reference.deployment import SOURCE_TYPE, TokenSource
from policy.localnet.accounts import dev_accounts
from policy.localnet.deploy import Deployer
from policy.localnet.market import Localnet
from policy.localnet.packages import Artefact
from policy.localnet.world import FEED_DECIMALS, GENESIS, NUMERAIRE, TICK_SPACING, Extra, World

HEARTBEAT_S = 90_000
MARKET_USD = 50_000_000
HOLDER = "investor"
DAY_S = 86_400
CALL, PUT, POOL, LINEAR = range(4)
_INCREASE = "0x" + keccak(text="IncreaseLiquidity(uint256,uint128,uint256,uint256)").hex()
CONTRACTS = (
    "hedge_account", "delta_book", "foredrift_oracle", "perp_market", "option_market", "rate_token", "mock_feed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalBook:
    """Sizes: coins of the straddle and its expiry (Unix seconds), USD and width of the pool position, staking tokens.

    ``cash_usd`` is in the account, which ``keeper`` (a role) keeps; ``posted``: the delta source has no lines and is
    posted.
    """

    straddle_coins: int = 100
    expiry: int = GENESIS + 30 * DAY_S
    vol: float = 0.7
    pool_usd: int = 300_000
    width: float = 0.2
    staked_tokens: int = 50
    rate: float = 1.15
    cash_usd: int = 500_000
    limits: HedgeLimits = field(default_factory=HedgeLimits)
    bounds: SourceBounds = field(default_factory=SourceBounds)
    posted: bool = False
    keeper: str = "keeper"


def hedged_book(book: LocalBook | None = None) -> Extra:
    """Return the extra that builds ``book``; its addresses are in the world's extras by the contracts' names."""
    sizes = book or LocalBook()
    parts = [source_digest(c) for c in CONTRACTS]
    digest = hashlib.sha256(repr((parts, sizes)).encode()).hexdigest()
    return Extra("hedged_book", digest, lambda on, world: _Builder(on, world, sizes).built())


@dataclass(frozen=True, slots=True)
class _Builder:
    on: Deployer
    world: World
    book: LocalBook

    def built(self) -> Mapping[str, str]:
        """Deploy everything and return the addresses; ``lp_id`` is the pool position's number."""
        cash, eth = self.world.token(NUMERAIRE), self.world.token("ETH")
        kinds = ["address", "uint256", "address"]
        market = [cash.address, cash.decimals, str(eth.feed)]
        found = {
            "perp_market": self.on.vyper("perp_market", kinds, market),
            "option_market": self.on.vyper("option_market", kinds, market),
            "rate_token": self.on.vyper("rate_token", ["uint256", "uint256"], [_wad(self.book.rate), WAD * 3 // 100]),
            "hedge_oracle": self._oracle(),
        }
        for name in ("perp_market", "option_market"):
            self._pay(found[name], MARKET_USD)
        spot = self._spot()
        lines = self._straddle(found["option_market"], spot)
        lp_id, line = self._pool(spot)
        lines.append(line)
        tokens = self.book.staked_tokens
        self.on.call("deployer", found["rate_token"], "mint(address,uint256)", _who(HOLDER), tokens * WAD)
        lines.append(BookLine(LINEAR, tokens * _wad(self.book.rate), 0, 0, 0))
        found["delta_book"] = self._create(
            "delta_book",
            source_code(SourceSetup(
                _who("owner"), _who("guardian"), _who("guardian"), found["hedge_oracle"],
                () if self.book.posted else lines, bounds=self.book.bounds, delay_s=3_600,
            )),
        )  # fmt: skip
        calls = [(self.world.contracts["v3_router"], c) for c in TICKS_CALLS]
        found["hedge_account"] = self._create(
            "hedge_account",
            account_code(AccountSetup(
                _who("owner"), _who(self.book.keeper), _who("guardian"), cash, eth, found["hedge_oracle"],
                found["perp_market"], found["delta_book"], calls, limits=self.book.limits, delay_s=3_600,
            )),
        )  # fmt: skip
        self._pay(found["hedge_account"], self.book.cash_usd)
        return found | {"lp_id": str(lp_id)}

    def _create(self, name: str, code: bytes) -> str:
        return self.on.deploy(Artefact(name, [], code))

    def _spot(self) -> float:
        ((_, answer),) = [self.on.view(str(self.world.token("ETH").feed), "latestRoundData()", "uint80,int256")]
        return float(str(answer)) / 1e8

    def _pay(self, to: str, usd: int) -> None:
        cash = self.world.token(NUMERAIRE)
        self.on.call("provider", cash.address, "transfer(address,uint256)", to, usd * 10**cash.decimals)

    def _oracle(self) -> str:
        rows = [
            TokenSource(t.address, t.decimals, 0, str(t.feed), HEARTBEAT_S, FEED_DECIMALS).encoded()
            for t in (self.world.token(NUMERAIRE), self.world.token("ETH"))
        ]
        args = [rows, "0x" + "0" * 40, 0]
        return self.on.vyper("foredrift_oracle", [f"{SOURCE_TYPE}[]", "address", "uint256"], args)

    def _straddle(self, market: str, spot: float) -> list[BookLine]:
        """Sell both options at the money; return their lines."""
        expiry, strike, vol = self.book.expiry, _wad(spot), _wad(self.book.vol)
        cash, size = self.world.token(NUMERAIRE), self.book.straddle_coins * WAD
        collateral = int(0.6 * spot) * self.book.straddle_coins * 10**cash.decimals
        self.on.call(HOLDER, cash.address, "approve(address,uint256)", market, 2**256 - 1)
        self.on.call(HOLDER, market, "deposit(uint256)", collateral)
        for i, call in enumerate((True, False)):
            self.on.call("deployer", market, "add_series(bool,uint256,uint256,uint256)", call, strike, expiry, vol)
            if size:
                self.on.call(HOLDER, market, "trade(uint256,int256,uint256)", i, -size, 0)
        return [BookLine(kind, -size, strike, expiry, vol) for kind in (CALL, PUT)] if size else []

    def _pool(self, spot: float) -> tuple[int, BookLine]:
        """Mint a position around ``spot`` in the pool of 5 bp; return its number and its line."""
        cash, eth = self.world.token(NUMERAIRE), self.world.token("ETH")
        manager, spacing = self.world.contracts["v3_positions"], TICK_SPACING[500]
        base0 = int(eth.address, 16) < int(cash.address, 16)
        scale = 10.0 ** (cash.decimals - eth.decimals)

        def tick(price: float) -> int:
            raw = price * scale if base0 else 1 / (price * scale)
            return round(math.log(raw) / math.log(1.0001) / spacing) * spacing

        def price(at: int) -> float:
            raw = float(1.0001**at)
            return float(raw / scale if base0 else 1 / raw / scale)

        ends = sorted(tick(p) for p in (spot * (1 - self.book.width), spot / (1 - self.book.width)))
        lower, upper = sorted(price(t) for t in ends)
        for token in (cash, eth):
            self.on.call(HOLDER, token.address, "approve(address,uint256)", manager, 2**256 - 1)
        unit = 2 * math.sqrt(spot) - spot / math.sqrt(upper) - math.sqrt(lower)  # USD of a unit of liquidity
        liquidity = self.book.pool_usd / unit
        amount = {
            eth.address: int(liquidity * (1 / math.sqrt(spot) - 1 / math.sqrt(upper)) * 10**eth.decimals),
            cash.address: int(liquidity * (math.sqrt(spot) - math.sqrt(lower)) * 10**cash.decimals),
        }
        token0, token1 = (eth.address, cash.address) if base0 else (cash.address, eth.address)
        mint = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
        ask = (token0, token1, 500, *ends, amount[token0], amount[token1], 0, 0, _who(HOLDER), 2**40)
        receipt = self.on.send(HOLDER, manager, calldata(mint, ask))
        log = next(x for x in receipt["logs"] if x["topics"][0] == _INCREASE)  # type: ignore[attr-defined]
        (raw, *_) = decode(["uint128", "uint256", "uint256"], bytes.fromhex(log["data"][2:]))
        in_units = raw * WAD // math.isqrt(10 ** (cash.decimals + eth.decimals))
        return int(log["topics"][1], 16), BookLine(POOL, in_units, _wad(lower), _wad(upper), 0)


def refresh_vols(net: Localnet, vol: float = 0.7) -> None:
    """Post the volatility of every option of the delta source anew, as its poster; a posted source has none."""
    source = net.world.extras["delta_book"]
    kinds = "(uint256,int256,uint256,uint256)[],uint256[]"
    lines: Any = read(net.node.admin, [Call(source, "lines()", kinds)])[0][0]
    if lines:
        vols = [_wad(vol) if kind <= PUT else 0 for kind, *_ in lines]
        net.send("guardian", source, calldata("post_vols(uint256[])", vols))
        net.mine()


def _wad(x: float) -> int:
    return round(x * 1e9) * 10**9


def _who(role: str) -> str:
    return dev_accounts()[role].address

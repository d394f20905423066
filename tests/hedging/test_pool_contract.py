"""Pool positions against the pool contracts: what burning and collecting pay is what the book says, to 1e-9."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lake.evm import Call, read
from lake.ingest import run
from lake.sources.positions import Holdings, position_sources
from lake.store import Lake
from lake.universe import chain
from pipelines.stages.book_lake import _pool as pool_of_row
from pipelines.stages.book_lake import book_of
from policy.execution.routing.amm import sqrt_ratio_at_tick
from policy.hedging import book as books
from policy.hedging import lp
from policy.hedging.instruments import Pool
from tests.hedging.chain_kit import act, market

pytestmark = pytest.mark.chain
MOST = 2**128 - 1
BURN = "decreaseLiquidity((uint256,uint128,uint256,uint256,uint256))"
COLLECT = "collect((uint256,address,uint128,uint128))"
_KINDS = "uint96,address,address,address,uint24,int24,int24,uint128"


@pytest.fixture(scope="module")
def net():
    with market() as found:
        yield found


@pytest.fixture(scope="module")
def every(net):
    return list(positions(net))


@pytest.fixture
def held(net, every):
    return next(p for p in every if p.number == int(net.world.extras["lp_id"]))


@pytest.fixture
def fresh(net):
    saved = net.snapshot()
    net.mine()
    yield net
    net.revert(saved)


@dataclass(frozen=True)
class Held:
    """A position: its number, holder, asset, pool, decimals of asset and dollar, and which token the asset is."""

    number: int
    holder: str
    asset: str
    pool: str
    liquidity: int
    decimals: tuple[int, int]
    side: int


def positions(net, most=40):
    """Every position of the market that has a dollar on one side."""
    manager, by_address = (
        net.world.contracts["v3_positions"],
        {t.address.lower(): a for a, t in net.world.tokens.items()},
    )
    usd = net.world.token("USDC")
    (count,) = read(net.rpc, [Call(manager, "totalSupply()", "uint256")])[0]
    for i in range(1, min(int(count), most) + 1):
        row = read(net.rpc, [Call(manager, "positions(uint256)", _KINDS, (i,))])[0]
        (holder,) = read(net.rpc, [Call(manager, "ownerOf(uint256)", "address", (i,))])[0]
        sides = [by_address[str(t).lower()] for t in row[2:4]]
        if "USDC" not in sides:
            continue
        side = 1 - sides.index("USDC")
        token = net.world.token(sides[side])
        pools = [p for p in net.world.pools.values() if p.venue == "uniswap_v3" and {p.asset, p.quote} == set(sides)]
        ref = next(p for p in pools if p.fee_pips == row[4])
        yield Held(i, str(holder), sides[side], ref.address, int(row[7]), (token.decimals, usd.decimals), side)


def root_of(net, held):
    return int(read(net.rpc, [Call(held.pool, "slot0()", "uint160")])[0][0])


def price_of(net, held):
    """The pool's own price, USD an asset."""
    raw = (root_of(net, held) / 2**96) ** 2
    scale = 10.0 ** (held.decimals[0] - held.decimals[1])
    return raw * scale if held.side == 0 else scale / raw


def paid(net, held, signature, *args):
    """What the manager would pay the holder now: (asset, dollars)."""
    call = Call(net.world.contracts["v3_positions"], signature, "uint256,uint256", args, held.holder)
    raw = [int(x) for x in read(net.rpc, [call])[0]]
    raw = raw if held.side == 0 else raw[::-1]
    return tuple(x / 10**d for x, d in zip(raw, held.decimals, strict=True))


def burnt(net, held):
    return paid(net, held, BURN, (held.number, held.liquidity, 0, 0, 2**40))


def owed(net, held):
    return paid(net, held, COLLECT, (held.number, held.holder, MOST, MOST))


def book_at(net, folder, held):
    """The book of one position as it is read from the chain, at the price of its own pool."""
    lake, usd = Lake(str(folder)), net.world.token("USDC").address
    at = datetime.fromtimestamp(net.node.head().time, UTC)
    given = Holdings(held.holder, {"USDC": usd, held.asset: net.world.token(held.asset).address},
                     v3_manager=net.world.contracts["v3_positions"], v3_ids=(held.number,))  # fmt: skip
    for source in position_sources(net.rpc, chain(net.chain_id), "desk", given):
        run(lake, replace(source, confirmations=0), at - timedelta(hours=1), at + timedelta(hours=1))
    row = {"source": "x", "asset": held.asset, "step": 3600, "ts": [at], "close": price_of(net, held)}
    lake.write("prices", pl.DataFrame(row).with_columns(available_at=pl.lit(at)))
    book = book_of(lake, "desk", at)
    return {p.name: (p, g) for p, g in zip(book.positions, books.lines(book), strict=True)}


def assert_whole(net, folder, held):
    """Value, delta and fees of the book are what burning and collecting pay, to 1e-9 of the position's worth."""
    found, price = book_at(net, folder, held), price_of(net, held)
    coins, cash = burnt(net, held)
    worth = coins * price + cash
    dust = 2 * (10.0 ** -held.decimals[0] * price + 10.0 ** -held.decimals[1])  # a burn rounds down, by a raw unit each
    pool, greeks = found[f"v3 {held.number}"]
    assert abs(greeks.value_usd - worth) <= 1e-9 * worth + dust
    assert abs(greeks.delta_usd - coins * price) <= 1e-9 * worth + dust
    fees = [found.get(f"v3 {held.number} fees {a}") for a in (held.asset, "USDC")]
    told = [0.0 if row is None else row[1].value_usd / unit for row, unit in zip(fees, (price, 1.0), strict=True)]
    assert told == pytest.approx(owed(net, held), rel=1e-9)
    return pool, greeks


@pytest.mark.parametrize("move", [0.70, 0.8001, 1.0, 1.2495, 1.6])
def test_value_and_delta_below_in_and_above_the_range(fresh, held, tmp_path, move):
    fresh.advance_prices({"ETH": 1_500.0 * move})
    pool, greeks = assert_whole(fresh, tmp_path / "lake", held)
    inside = pool.lower < price_of(fresh, held) < pool.upper
    assert inside == (0.75 < move < 1.3)
    assert (greeks.cash_gamma_usd < 0) == inside


def test_every_position_of_the_market_with_a_dollar_in_it(fresh, every, tmp_path):
    assert {p.asset for p in every} >= {"BTC", "ETH", "LINK", "UNI"}
    assert {p.side for p in every} == {0, 1}
    fresh.advance_prices({"BTC": 21_234.5, "ETH": 1_433.0, "LINK": 6.1, "UNI": 6.7, "AAVE": 77.7})
    chosen = {(p.asset, p.liquidity): p for p in every if p.asset in {"BTC", "LINK"} or p.side == 1}
    for one in list(chosen.values())[:5]:
        assert_whole(fresh, tmp_path / str(one.number), one)


@pytest.mark.parametrize("move", [0.82, 1.2])
def test_gamma_is_how_the_contracts_coins_change_with_its_price(fresh, held, tmp_path, move):
    seen = []
    for step in (1.0, 1.0001):
        fresh.advance_prices({"ETH": 1_500.0 * move * step})
        seen.append((price_of(fresh, held), burnt(fresh, held)[0]))
    (low, before), (high, after) = seen
    pool, _ = book_at(fresh, tmp_path / "lake", held)[f"v3 {held.number}"]
    middle = np.array([np.sqrt(low * high)])
    slope = float(lp.cash_gamma(middle, pool.liquidity, pool.lower, pool.upper)[0]) / middle[0] ** 2
    assert (after - before) / (high - low) == pytest.approx(slope, rel=1e-8)  # the step itself leaves 3e-10


def test_a_position_that_is_closed_pays_what_the_book_said(fresh, held, tmp_path):
    for price in (1_380.0, 1_640.0, 1_490.0):
        fresh.advance_prices({"ETH": price})
    found, price = book_at(fresh, tmp_path / "lake", held), price_of(fresh, held)
    said = sum(g.value_usd for name, (_, g) in found.items() if name.startswith(f"v3 {held.number}"))
    fees = sum(g.value_usd for name, (_, g) in found.items() if " fees " in name)
    assert fees > 1.0
    before = wallet(fresh, held)
    manager = fresh.world.contracts["v3_positions"]
    act(fresh, "investor", manager, BURN, (held.number, held.liquidity, 0, 0, 2**40))
    act(fresh, "investor", manager, COLLECT, (held.number, held.holder, MOST, MOST))
    got = [a - b for a, b in zip(wallet(fresh, held), before, strict=True)]
    in_usd = got[0] / 10 ** held.decimals[0] * price + got[1] / 10 ** held.decimals[1]
    assert in_usd == pytest.approx(said, rel=1e-9)
    left = book_at(fresh, tmp_path / "after", held)
    assert left[f"v3 {held.number}"][1].value_usd == 0.0
    assert not any(" fees " in name for name in left)


def wallet(net, held):
    tokens = (net.world.token(held.asset).address, net.world.token("USDC").address)
    return [int(read(net.rpc, [Call(t, "balanceOf(address)", "uint256", (held.holder,))])[0][0]) for t in tokens]


@pytest.mark.parametrize("tick", [-887_272, -199_130, -1, 0, 1, 73_140, 887_262])
def test_the_edges_are_the_contracts_own(tick):
    row = {"position_id": "v", "asset": "X", "tick_lower": tick, "tick_upper": tick + 10, "base_token": 0,
           "liquidity_raw": b"\0" * 31 + b"\1", "base_decimals": 18, "quote_decimals": 18}  # fmt: skip
    pool = pool_of_row(None, row)
    assert isinstance(pool, Pool)
    for edge, at in ((pool.lower, tick), (pool.upper, tick + 10)):
        assert edge == pytest.approx((sqrt_ratio_at_tick(at) / 2**96) ** 2, rel=1e-15)
        assert edge == pytest.approx(1.0001**at, rel=1e-9 if abs(at) < 300_000 else 1e-8)

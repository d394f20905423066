"""The prepared world: tokens, feeds, Uniswap v2 and v3 pools of a stated depth, built once and loaded from its state.

A world is keyed by everything that shapes it, so a changed price, depth, contract or package builds a new one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.units import Q96
from policy.execution.base import Token
from policy.execution.contracts.compile import source_digest
from policy.execution.routing.amm import MAX_TICK, MIN_TICK, sqrt_ratio_at_tick, tick_at_sqrt_ratio
from policy.localnet.accounts import ROLES, dev_accounts
from policy.localnet.anvil import Anvil
from policy.localnet.deploy import Deployer
from policy.localnet.packages import cache_dir, lock_digest

FEED_DECIMALS = 8  # of every USD feed
NUMERAIRE = "USDC"
SECOND_FEED = "second_feed:"
"""Prefix of extras that are second feeds of an asset; they follow its price like the first."""
SHARE = "share:"
"""Prefix of extras that are yield-bearing tokens: their asset, and after another colon what it is made of."""
TICK_SPACING = {100: 1, 500: 10, 3_000: 60, 10_000: 200}
OBSERVATIONS = 128  # slots of price history a v3 pool keeps; enough for a 30-minute average at 12 s blocks
GENESIS = 1_600_000_000  # 2020-09-13, before any history replayed here
PRICES = {"BTC": "20000", "ETH": "1500", "LINK": "7", "UNI": "6", "AAVE": "80"}
"""Round figures of autumn 2022, used where no prices are given."""

_TOKENS = {"BTC": ("WBTC", 8), "ETH": ("WETH", 18), "USDC": ("USDC", 6), "USDT": ("USDT", 6), "DAI": ("DAI", 18)}
KEPT = 40
"""Saved worlds in the cache; more than the test suite has at a time."""

_WALLET_USD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool to build. ``depth_usd`` is one-sided: what a buyer pays to move the price by 1 %.

    ``ranges`` splits a v3 pool's liquidity: (half width as a price factor, share); factor 0 is the full range.
    """

    venue: str  # uniswap_v2 | uniswap_v3
    asset: str
    quote: str
    fee_pips: int
    depth_usd: float
    ranges: tuple[tuple[float, float], ...] = ((0.0, 0.6), (1.5, 0.4))


DEFAULT_POOLS = (
    PoolSpec("uniswap_v3", "ETH", "USDC", 500, 8_000_000),
    PoolSpec("uniswap_v3", "ETH", "USDC", 3_000, 5_000_000),
    PoolSpec("uniswap_v2", "ETH", "USDC", 3_000, 400_000),
    PoolSpec("uniswap_v3", "BTC", "USDC", 3_000, 1_500_000),
    PoolSpec("uniswap_v3", "BTC", "ETH", 3_000, 3_000_000),
    PoolSpec("uniswap_v3", "LINK", "ETH", 3_000, 500_000),
    PoolSpec("uniswap_v3", "LINK", "USDC", 3_000, 200_000),
    PoolSpec("uniswap_v2", "LINK", "ETH", 3_000, 100_000),
    PoolSpec("uniswap_v3", "UNI", "ETH", 3_000, 600_000),
    PoolSpec("uniswap_v3", "UNI", "USDC", 3_000, 250_000),
    PoolSpec("uniswap_v3", "AAVE", "ETH", 3_000, 300_000),
    PoolSpec("uniswap_v3", "AAVE", "USDC", 3_000, 150_000),
)
"""Where Uniswap's liquidity sat, in round figures; give ``depths`` from pool_state to replace them."""


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """What a world consists of. ``prices`` are USD per asset as decimal strings."""

    prices: Mapping[str, str] = field(default_factory=lambda: dict(PRICES))
    pools: tuple[PoolSpec, ...] = DEFAULT_POOLS
    chain_id: int = 31_337


@dataclass(frozen=True, slots=True)
class PoolRef:
    """A pool of the world; ``token0`` and ``token1`` are addresses in the pool's order."""

    name: str
    venue: str
    address: str
    asset: str
    quote: str
    token0: str
    token1: str
    fee_pips: int
    router: str


@dataclass(frozen=True, slots=True)
class World:
    """Addresses of everything deployed; ``tokens`` and ``feeds`` by asset, ``extras`` by name."""

    chain_id: int
    tokens: Mapping[str, Token]
    pools: Mapping[str, PoolRef]
    contracts: Mapping[str, str]  # weth, v3_factory, v3_router, v3_positions, quoter, tick_lens, v2_factory, v2_router
    extras: Mapping[str, str] = field(default_factory=dict)

    def token(self, asset: str) -> Token:
        """Return the token of ``asset``; ConfigError with the known ones otherwise.

        A yield-bearing one has decimals and feed of what it is made of.
        """
        for name, address in self.extras.items():
            if name.startswith(f"{SHARE}{asset}:"):
                return replace(self.tokens[name.removeprefix(f"{SHARE}{asset}:")], symbol=asset, address=address)
        try:
            return self.tokens[asset]
        except KeyError:
            raise ConfigError(f"the local chain has no {asset!r}; it has {', '.join(self.tokens)}") from None


@dataclass(frozen=True, slots=True)
class Extra:
    """More to deploy into the world (a vault, a Safe): ``deploy`` returns addresses, ``digest`` keys its code."""

    name: str
    digest: str
    deploy: Callable[[Deployer, World], Mapping[str, str]]


def spec_for(
    prices: Mapping[str, float | str | Decimal] | None = None,
    depths: Mapping[str, float] | None = None,
    chain_id: int = 31_337,
) -> WorldSpec:
    """Return the spec of a world with these USD prices (ETH is always there) and one-sided 1 % depths by asset.

    A depth (from pool_state.depth_1pct_usd) sets the asset's deepest pool; its other pools keep their proportion.
    """
    given = {a: _decimal(p) for a, p in (prices or PRICES).items() if a not in {"USDC", "USD"}}
    given.setdefault("ETH", PRICES["ETH"])
    pools = [p for p in DEFAULT_POOLS if p.asset in given and p.quote in {*given, NUMERAIRE}]
    missing = [a for a in given if not any(p.asset == a for p in pools)]
    pools += [PoolSpec("uniswap_v3", a, NUMERAIRE, 3_000, 500_000) for a in missing]
    for asset, depth in (depths or {}).items():
        deepest = max((p.depth_usd for p in pools if p.asset == asset), default=0.0)
        pools = [replace(p, depth_usd=p.depth_usd * depth / deepest) if p.asset == asset else p for p in pools]
    return WorldSpec(dict(sorted(given.items())), tuple(pools), chain_id)


def prepared(spec: WorldSpec, extras: Sequence[Extra] = (), cache: Path | None = None) -> tuple[World, Path]:
    """Return the world of ``spec`` and its saved state, building both where the cache has none."""
    folder = (cache or cache_dir()) / "worlds"
    name = _digest(spec, extras)
    state, book = folder / f"{name}.state.json", folder / f"{name}.world.json"
    if not (state.exists() and book.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        with Anvil(spec.chain_id, timestamp=GENESIS, cache=cache) as node:
            world = build(Deployer(node.rpc, cache), spec, extras)
            dump = str(node.rpc.call("anvil_dumpState", []))
        _write(state, gzip.decompress(bytes.fromhex(dump[2:])))
        _write(book, json.dumps(asdict(world)).encode())
        _forget(folder)
    return _world_of(json.loads(book.read_text())), state


def build(on: Deployer, spec: WorldSpec, extras: Sequence[Extra] = ()) -> World:
    """Deploy the world of ``spec`` on an empty node; return its addresses."""
    weth = on.package("WETH9")
    v3_factory, v2_factory = on.package("UniswapV3Factory"), on.package("UniswapV2Factory", ["address"], [_deployer()])
    pair = ["address", "address"]
    contracts = {
        "weth": weth,
        "v3_factory": v3_factory,
        "v3_router": on.package("SwapRouter", pair, [v3_factory, weth]),
        "v3_positions": on.package("NonfungiblePositionManager", [*pair, "address"], [v3_factory, weth, _deployer()]),
        "quoter": on.package("QuoterV2", pair, [v3_factory, weth]),
        "tick_lens": on.package("TickLens"),
        "v2_factory": v2_factory,
        "v2_router": on.package("UniswapV2Router02", pair, [v2_factory, weth]),
    }
    prices = {NUMERAIRE: "1", **spec.prices}
    tokens = {asset: _token(on, asset, price, weth) for asset, price in prices.items()}
    world = World(spec.chain_id, tokens, {}, contracts)
    for asset, price in prices.items():
        _fund(on, world, asset, Fraction(price))
    pools = {}
    for pool in spec.pools:
        ref = _v3_pool(on, world, pool, prices) if pool.venue == "uniswap_v3" else _v2_pool(on, world, pool, prices)
        pools[ref.name] = ref
    world = replace(world, pools=pools)
    found: dict[str, str] = {}
    for extra in extras:
        found |= extra.deploy(on, replace(world, extras=found))
    return replace(world, extras=found)


def pool_name(pool: PoolSpec) -> str:
    """Return for example ``v3:ETH/USDC:500``."""
    return f"{pool.venue.removeprefix('uniswap_')}:{pool.asset}/{pool.quote}:{pool.fee_pips}"


def sqrt_price_x96(price0_usd: Fraction, decimals0: int, price1_usd: Fraction, decimals1: int) -> int:
    """Return the Q64.96 root of the raw price (token1 per token0), rounded down."""
    raw = price0_usd / price1_usd * Fraction(10) ** (decimals1 - decimals0)
    return math.isqrt(raw.numerator * Q96 * Q96 // raw.denominator)


def liquidity_for(depth_usd: float, price1_usd: Fraction, decimals1: int, sqrt_x96: int) -> int:
    """Return the in-range L at which buying token0 for ``depth_usd`` of token1 (before fee) moves the price by 1 %.

    From the v3 whitepaper, eq. 6.14: delta y = L * delta sqrt(P).
    """
    amount1 = Fraction(depth_usd) / price1_usd * 10**decimals1
    move = Fraction(sqrt_x96, Q96) * Fraction(math.sqrt(1.01) - 1)
    return int(amount1 / move)


def _token(on: Deployer, asset: str, price: str, weth: str) -> Token:
    symbol, decimals = _TOKENS.get(asset, (asset, 18))
    kinds = ["string", "string", "uint8"]
    address = (
        weth if asset == "ETH" else on.vyper("mock_token", kinds, [f"{symbol} of the local chain", symbol, decimals])
    )
    answer = int(Fraction(price) * 10**FEED_DECIMALS)
    feed = on.vyper("mock_feed", ["uint8", "string", "int256"], [FEED_DECIMALS, f"{asset} / USD", answer])
    return Token(symbol, address, decimals, feed)


def _fund(on: Deployer, world: World, asset: str, price: Fraction) -> None:
    """Give every account but identity a billion dollars of the token, and the pools' owner a hundred times that."""
    token = world.tokens[asset]
    routers = [world.contracts[c] for c in ("v3_router", "v2_router", "v3_positions")]
    for role in ROLES[:-1]:
        amount = int(_WALLET_USD * (100 if role == "provider" else 1) / price * 10**token.decimals)
        if asset == "ETH":
            account = dev_accounts()[role].address
            on.rpc.call("anvil_setBalance", [account, hex(amount + 10**26)])
            on.call(role, token.address, "deposit()", value=amount)
        else:
            on.call("deployer", token.address, "mint(address,uint256)", dev_accounts()[role].address, amount)
        for spender in routers if role in {"provider", "arbitrageur", "searcher", "trader"} else ():
            on.call(role, token.address, "approve(address,uint256)", spender, 2**256 - 1)


def _ordered(world: World, pool: PoolSpec, prices: Mapping[str, str]) -> tuple[Token, Token, Fraction, Fraction]:
    sides = sorted((pool.asset, pool.quote), key=lambda a: int(world.tokens[a].address, 16))
    return (*(world.tokens[a] for a in sides), *(Fraction(prices[a]) for a in sides))  # type: ignore[return-value]


def _ref(pool: PoolSpec, address: object, token0: Token, token1: Token, router: str) -> PoolRef:
    where = to_checksum_address(str(address))
    return PoolRef(
        pool_name(pool),
        pool.venue,
        where,
        pool.asset,
        pool.quote,
        token0.address,
        token1.address,
        pool.fee_pips,
        router,
    )


def _v3_pool(on: Deployer, world: World, pool: PoolSpec, prices: Mapping[str, str]) -> PoolRef:
    token0, token1, price0, price1 = _ordered(world, pool, prices)
    root = sqrt_price_x96(price0, token0.decimals, price1, token1.decimals)
    manager = world.contracts["v3_positions"]
    create = "createAndInitializePoolIfNecessary(address,address,uint24,uint160)"
    on.call("provider", manager, create, token0.address, token1.address, pool.fee_pips, root)
    get = "getPool(address,address,uint24)"
    (address,) = on.view(world.contracts["v3_factory"], get, "address", token0.address, token1.address, pool.fee_pips)
    total = liquidity_for(pool.depth_usd, price1, token1.decimals, root)
    for width, share in pool.ranges:
        low, high = _range(root, width, TICK_SPACING[pool.fee_pips])
        sqrt_low, sqrt_high = sqrt_ratio_at_tick(low), sqrt_ratio_at_tick(high)
        part = int(total * share)
        amount0 = part * Q96 * (sqrt_high - root) // sqrt_high // root + 2
        amount1 = part * (root - sqrt_low) // Q96 + 2
        mint = "mint((address,address,uint24,int24,int24,uint256,uint256,uint256,uint256,address,uint256))"
        ask = (token0.address, token1.address, pool.fee_pips, low, high, amount0, amount1, 0, 0, _provider(), 2**40)
        on.call("provider", manager, mint, ask)
    on.call("provider", str(address), "increaseObservationCardinalityNext(uint16)", OBSERVATIONS)
    return _ref(pool, address, token0, token1, world.contracts["v3_router"])


def _v2_pool(on: Deployer, world: World, pool: PoolSpec, prices: Mapping[str, str]) -> PoolRef:
    token0, token1, price0, price1 = _ordered(world, pool, prices)
    root = sqrt_price_x96(price0, token0.decimals, price1, token1.decimals)
    total = liquidity_for(pool.depth_usd, price1, token1.decimals, root)
    amount0, amount1 = total * Q96 // root, total * root // Q96
    router = world.contracts["v2_router"]
    add = "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)"
    on.call("provider", router, add, token0.address, token1.address, amount0, amount1, 0, 0, _provider(), 2**40)
    get = "getPair(address,address)"
    (address,) = on.view(world.contracts["v2_factory"], get, "address", token0.address, token1.address)
    return _ref(pool, address, token0, token1, router)


def _range(root: int, width: float, spacing: int) -> tuple[int, int]:
    if not width:
        return -(-MIN_TICK // spacing) * spacing, MAX_TICK // spacing * spacing
    middle, half = tick_at_sqrt_ratio(root), int(math.log(width) / math.log(1.0001))
    return (middle - half) // spacing * spacing, -(-(middle + half) // spacing) * spacing


def _deployer() -> str:
    return dev_accounts()["deployer"].address


def _provider() -> str:
    return dev_accounts()["provider"].address


def _decimal(price: float | str | Decimal) -> str:
    value = Decimal(str(price))
    if not value.is_finite() or value <= 0:
        raise ConfigError(f"a price must be positive, got {price!r}")
    return format(value, "f")


def _digest(spec: WorldSpec, extras: Sequence[Extra]) -> str:
    sha = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode())
    sha.update(lock_digest().encode())
    sha.update(Path(__file__).read_bytes())
    for name in ("mock_token", "mock_feed"):
        sha.update(source_digest(name).encode())
    for extra in extras:
        sha.update(f"{extra.name}={extra.digest};".encode())
    return sha.hexdigest()[:24]


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fresh.write_bytes(content)
    fresh.replace(path)


def _forget(folder: Path) -> None:
    """Keep the newest KEPT worlds (4 MB each); an older one is built anew when it is asked for again."""
    states = sorted(folder.glob("*.state.json"), key=lambda p: p.stat().st_mtime)
    for state in states[:-KEPT]:
        state.unlink(missing_ok=True)
        state.with_name(state.name.replace(".state.", ".world.")).unlink(missing_ok=True)


def _world_of(raw: dict[str, dict[str, dict[str, str]]]) -> World:
    return World(
        int(str(raw["chain_id"])),
        {a: Token(**t) for a, t in raw["tokens"].items()},  # type: ignore[arg-type]
        {n: PoolRef(**p) for n, p in raw["pools"].items()},  # type: ignore[arg-type]
        raw["contracts"],  # type: ignore[arg-type]
        raw["extras"],  # type: ignore[arg-type]
    )

"""A small simulated market with a vault off its targets, and contexts of the engine on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from lake.units import bps
from policy.base import ChainFees, Decision, ForecastView, State
from policy.execution.base import Token
from policy.execution.checks.rules import Mandate
from policy.execution.context import EngineContext, Limits
from policy.execution.planner import PlanRules
from policy.execution.records.audit import Audit
from policy.execution.records.journal import Journal
from policy.execution.routing.amm import V2Pool, V3Pool, tick_at_sqrt_ratio
from policy.execution.state_builder import OffchainView, RiskTerms
from policy.execution.vaults.simulated.adapter import SimulatedVault, VaultSpec, executor
from policy.execution.vaults.simulated.chain import Genesis, SimChain, SimChannel, SimSigner
from policy.execution.vaults.simulated.world import SimWorld

KEEPER = "0x00000000000000000000000000000000000000aa"
VAULT = "0x00000000000000000000000000000000000000bb"
USDC = Token("USDC", "0x1000000000000000000000000000000000000001", 6)
WETH = Token("WETH", "0x2000000000000000000000000000000000000002", 18)
WBTC = Token("WBTC", "0x3000000000000000000000000000000000000003", 8)
TOKENS = (USDC, WETH, WBTC)
PRICES = {USDC.address: 1.0, WETH.address: 2_000.0, WBTC.address: 40_000.0}
START = 1_700_000_400
ETHER = 10**18


def raw_price(token0: Token, token1: Token, prices=PRICES) -> float:
    """Raw units of token1 per raw unit of token0."""
    return prices[token0.address] / prices[token1.address] * 10 ** (token1.decimals - token0.decimals)


def v2(address: str, token0: Token, token1: Token, usd: float, prices=PRICES, fee_pips: int = 3_000) -> V2Pool:
    reserves = [int(usd / prices[t.address] * 10**t.decimals) for t in (token0, token1)]
    return V2Pool(address, token0.address, token1.address, *reserves, fee_pips)


def v3(
    address: str, token0: Token, token1: Token, usd: float, prices=PRICES, fee_pips: int = 500, spacing: int = 10
) -> V3Pool:
    raw = raw_price(token0, token1, prices)
    sqrt_x96 = int(raw**0.5 * 2**96)
    tick = tick_at_sqrt_ratio(sqrt_x96)
    depth = usd / prices[token0.address] * 10**token0.decimals
    liquidity = int(depth * raw**0.5)
    base = tick // spacing * spacing
    wide, narrow = 200 * spacing, 20 * spacing
    half = liquidity // 2
    ticks = (
        (base - wide, half),
        (base - narrow, liquidity - half),
        (base + narrow, half - liquidity),
        (base + wide, -half),
    )
    return V3Pool(address, token0.address, token1.address, fee_pips, spacing, sqrt_x96, tick, liquidity, ticks)


def pools(prices=PRICES, usd: float = 5e6) -> dict:
    made = [
        v2("v2-eth", USDC, WETH, usd, prices),
        v3("v3-eth", USDC, WETH, usd * 10, prices),
        v2("v2-btc", USDC, WBTC, usd, prices),
        v3("v3-btc", WETH, WBTC, usd * 5, prices, 3_000, 60),
    ]
    return {p.address: p for p in made}


def world(weights=(0.5, 0.3, 0.2), nav: float = 1e6, targets=(4_000, 3_000, 3_000), prices=PRICES) -> SimWorld:
    return SimWorld(
        balances={
            t.address: int(nav * w / prices[t.address] * 10**t.decimals) for t, w in zip(TOKENS, weights, strict=False)
        },
        pools=pools(prices),
        prices={t.address: (int(prices[t.address] * 1e8), START - 60, 7) for t in TOKENS},
        targets_bps=tuple(targets),
    )


ROOMY = {"loss_budget_ppb": 20_000_000, "long_budget_ppb": 10**9, "life_budget_ppb": 10**9, "strikes": 255}
"""Loss budgets that stop no test but those about them: its pools are thin."""


def spec(**mandate) -> VaultSpec:
    limits = Mandate(**{**ROOMY, **mandate})
    return VaultSpec(VAULT, KEEPER, TOKENS, limits, heartbeat_s=86_400)


def chain(the_world: SimWorld | None = None, the_spec: VaultSpec | None = None, base_fee_wei: int = 10**9) -> SimChain:
    start = Genesis(time=START, number=100, base_fee_wei=base_fee_wei)
    return SimChain(the_world or world(), executor(the_spec or spec()), start, wei={KEEPER: 10 * ETHER})


class ToTarget:
    """Trades to target when the largest deviation exceeds ``trigger``."""

    name = "to_target"

    def __init__(self, trigger: float = 0.01, benefit_usd: float = 5_000.0, action: str = "trade") -> None:
        self.trigger, self.benefit, self.action = trigger, benefit_usd, action

    def decide(self, state: State, forecasts: ForecastView) -> Decision:
        gap = float(np.abs(state.weights - state.target).max())
        if gap <= self.trigger:
            return Decision("wait", state.weights, 0.0, 0.0, 0.0, f"deviation {gap:.4f}")
        return Decision(self.action, state.target, self.benefit, 0.0, 0.0, f"deviation {gap:.4f}")


COVARIANCE = np.diag([1e-8, 4e-5, 3e-5])


def view_of(node, **more):
    def view(snapshot):
        at = datetime.fromtimestamp(snapshot.block_time, UTC)
        return OffchainView({}, COVARIANCE, 2_000.0, at - timedelta(minutes=5), **more)

    return view


def context(folder: Path, node, the_chain: SimChain | None = None, **more) -> EngineContext:
    """An engine context on ``node`` (a SimChain or a faulty front); ``wait`` mines one block of ``the_chain``."""
    the_chain = the_chain or node
    vault = SimulatedVault(more.pop("spec", None) or spec(), node)
    limits = more.pop("limits", None) or Limits(plan=PlanRules(max_slippage_bps=bps(100)), confirmations=2)
    fields = {
        "vault": vault,
        "vault_address": VAULT,
        "chain_id": 31_337,
        "node": node,
        "policy": ToTarget(),
        "portfolio": RiskTerms(("USDC", "ETH", "BTC"), np.full(3, 0.05), 3.0, "soft", ChainFees(31_337)),
        "view": view_of(node),
        "pools": vault.pools,
        "sender": KEEPER,
        "journal": Journal(folder / "journal.jsonl"),
        "audit": Audit(folder / "audit.jsonl"),
        "channels": {"public": SimChannel(node)},
        "wait": lambda head: the_chain.mine(),
        "signer": SimSigner(KEEPER),
        "live": True,
        "limits": limits,
        "clock": lambda: datetime.fromtimestamp(the_chain.head().time, UTC),
    }
    return EngineContext(**{**fields, **more})

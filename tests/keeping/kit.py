"""A keeper on the simulated chain: desks, market and headers, small and without waiting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from policy.base import Decision, ForecastView, State
from policy.execution.context import EngineContext
from policy.execution.submission.gas import next_base_fee
from policy.execution.vaults.simulated.chain import RULES, SimChain
from policy.keeping.desk import Changes, Desk, Occasion, VaultReading
from policy.keeping.keeper import Keeper
from policy.keeping.readings import reading_of
from policy.strategies.planner_policy import RulePolicy
from policy.strategies.reactive import GAS_BAND
from tests.execution.simlab import ToTarget, context


@dataclass(frozen=True)
class SimHeader:
    """A block of the simulated chain as a keeper sees it."""

    number: int
    hash: str
    timestamp_s: int
    next_base_fee_wei: int


def header(sim: SimChain) -> SimHeader:
    """Return the newest block."""
    h = sim.head()
    return SimHeader(h.number, h.hash, h.time, next_base_fee(h, RULES))


@dataclass
class SimMarket:
    """Reads vaults of simulated chains: everything anew at each block."""

    contexts: list[EngineContext]

    def changes(self, head: SimHeader) -> Changes:
        return Changes({}, frozenset(range(len(self.contexts))), 10**8)

    def read(self, row: int, head: SimHeader) -> VaultReading:
        ctx = self.contexts[row]
        snapshot = ctx.vault.snapshot(head.number)
        price = head.next_base_fee_wei + 10**8
        return reading_of(snapshot, ctx.portfolio, ctx.view(snapshot), ctx.pools(snapshot), price, {})


class Bound(ToTarget):
    """Trades to target where gas is at most ``reserve_gwei``: the same trade at whatever price it is made."""

    name = "bound"

    def __init__(self, reserve_gwei: float) -> None:
        super().__init__(benefit_usd=1e6)
        self.reserve_gwei = reserve_gwei

    def decide(self, state: State, forecasts: ForecastView) -> Decision:
        """Return the trade to target, or none while gas is dearer."""
        if state.market.gas_gwei > self.reserve_gwei:
            return Decision("wait", state.weights, 0.0, 0.0, 0.0, f"{state.market.gas_gwei:.1f} gwei is too dear")
        return super().decide(state, forecasts)


def keeper(
    folder: Path,
    sim: SimChain,
    *,
    checkpoint: Callable[[str], None] | None = None,
    policy: object | None = None,
    **more: object,
) -> tuple[Keeper, EngineContext]:
    """A keeper of one vault on ``sim``, which is decided on by ``gas_band`` where no policy is given."""
    hooks = {} if checkpoint is None else {"checkpoint": checkpoint}
    ctx = context(folder, more.pop("node", sim), sim, policy=policy or RulePolicy(GAS_BAND), **hooks, **more)
    ctx = replace(ctx, wait=lambda head: None)

    @contextmanager
    def cycle(occasion: Occasion):
        yield replace(ctx, not_before=occasion.head.number)

    desk = Desk("main", ctx.journal, cycle, folder / "looks")
    return Keeper([desk], SimMarket([ctx]), width=4, workers=1), ctx

"""The predictive policy at one moment: levels from the state, the forecasts handed over and a frozen memory, no more.

It computes what ``Predictive.levels_over`` computes at that step of a history, from the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from policy.base import ForecastView, Matrix, Scenario, State, Vector
from policy.costs import gas_lines, impact_per_square
from policy.memory import PolicyMemory, expect
from policy.simulation.planner import Levels
from policy.solvers import bands
from policy.solvers.dynamic_program import GasChain, Terms, levels_many, solve
from policy.strategies import experts, gas_outlook
from policy.strategies.gas_process import Window, hours_of_week, index_in
from policy.strategies.gas_tilt import dearness, handed_minima, leant_minima
from policy.strategies.programme import HARD_GRID, Geometry, gas_of_swaps, slices, terms_of
from policy.strategies.reactive import GAS_BAND, GAS_BAND_EXIT, GAS_TILT

CHAIN = ("usual", "profile", "slow", "slow_move", "white", "speed", "speed_move")


def remember(
    at: datetime, window: Window, share: float, earned: float, weights: Vector, then: dict[str, Vector | float]
) -> PolicyMemory:
    """Return the memory of the predictive policy.

    ``window`` is the gas process in force, ``share`` of the forecasts it takes, ``earned`` the trust in them,
    ``weights`` (width,) those of ``experts``. ``then``: gas_gwei, native_usd, covariance (n, n) and depth_usd (n,) when
    the process was learnt; slow, speed, the ``means`` (3,) of the tilt's terms and the process's own view of the
    ``least`` gas to come (2,) as they stand now; ``least_share`` (2,) of forecasts of it that is taken.
    """
    chain = {f"chain.{name}": np.asarray(getattr(window.fit.chain, name), dtype=np.float64) for name in CHAIN}
    values = {
        "log_profile": window.fit.log_profile, "share": np.float64(share), "earned": np.float64(earned),
        "weights": weights,
    }  # fmt: skip
    return PolicyMemory("predictive", at, chain | {k: np.asarray(v, np.float64) for k, v in (values | then).items()})


def nothing_learnt(at: datetime) -> PolicyMemory:
    """Return the memory of a predictive policy whose past is too short: it decides as gas_band does."""
    return PolicyMemory("predictive", at)


@dataclass(frozen=True, slots=True)
class Remembered:
    """The predictive policy with what it knows; pure.

    Of its memory ``slow`` is the chain's own filter of gas, ``speed`` the market's.
    """

    memory: PolicyMemory
    name: str = "predictive"

    def __post_init__(self) -> None:
        """Refuse the memory of another policy."""
        expect(self.memory, "predictive")

    def levels_at(self, state: State, forecasts: ForecastView) -> Levels:
        """Return the levels for ``state``; those of the reactive rule, and why, where forecasts have no say.

        That rule is the stronger one, unless the past spoke against it, and gas_band without a past.
        """
        base = GAS_BAND.levels_at(state, forecasts)
        if not self.memory.values:
            return replace(base, why=f"{base.why}; gas_band decides: too little gas history")
        values, minima = gas_outlook.handed(forecasts), handed_minima(forecasts)
        weights = self.memory.values["weights"].copy()
        trust = self.memory.number("earned")
        reason = self._silence(state.scenario, forecasts, values, minima, trust)
        rule = {"soft": GAS_TILT, "hard": GAS_BAND_EXIT}[state.scenario].name if weights[0] else GAS_BAND.name
        weights[1:] *= 0.0 if reason else trust
        outer, inner, part = self._moved(state, base, values, minima, weights)
        if reason:
            why = f"{base.why}; {rule} decides: {reason}"
        elif not weights[1:].any():
            why = f"{base.why}; {rule} decides: forecasts have not yet been cheaper than it for such a portfolio"
        else:
            why = f"{base.why}, moved to {outer:.4f} by the gas forecast at trust {trust:.2f}"
        cap, resume = (base.cap, base.resume) if reason else self._slices(state, base, outer, inner)
        return replace(base, outer=outer, inner=inner, cap=cap, resume=resume, exit_part=part, why=why)

    def _silence(
        self, scenario: Scenario, forecasts: ForecastView, values: Vector, minima: Vector, trust: float
    ) -> str | None:
        """Return why forecasts have no say, None where they have."""
        silent = gas_outlook.silent(forecasts)
        if silent:
            return silent
        if trust <= 0.0:
            return "the gas forecasts have shown no skill"
        if not gas_outlook.fresh(values):
            return "gas forecasts of some horizons are missing"
        if scenario == "soft" and not np.isfinite(minima).all():
            return "forecasts of the least gas to come are missing"
        return None

    def _moved(
        self, state: State, base: Levels, values: Vector, minima: Vector, weights: Vector
    ) -> tuple[float, float, float]:
        known = self.memory.values
        least = leant_minima(known["least"], minima, known["least_share"])
        relative, dear = (np.array([v]) for v in dearness(state, least, known["means"]))
        sight = experts.Sight(relative, np.nan_to_num(dear))
        if state.scenario == "hard" and weights[1:].any():
            sight = experts.Sight(relative, dear, *self._programme(state, base, values))
        band = np.array([base.outer]), np.array([base.inner])
        outer, inner, part = experts.moved(state.scenario, band, sight, weights[None])
        return float(outer[0]), float(inner[0]), float(part[0])

    def _programme(self, state: State, base: Levels, values: Vector) -> tuple[Vector, Vector]:
        """Return the programme's (1,) outer and inner, as ``programme.programme`` has them at that step."""
        known = self.memory.values
        outer, inner = np.array([base.outer]), np.array([base.inner])
        speed = np.atleast_1d(known["speed"])
        chain = GasChain(self.memory.number("chain.usual"), *(known[f"chain.{name}"] for name in CHAIN[1:]))
        hour = hours_of_week(np.array([int(state.ts.timestamp()) * 1_000_000]))
        native = np.array([state.market.native_usd])
        near = gas_outlook.fit_state(values[None], hour, native, chain.usual, known["log_profile"])
        slow = gas_outlook.leant(np.atleast_1d(known["slow"]), near, self.memory.number("share"))
        terms = self._terms(state, chain)
        solution = solve(terms, chain, *HARD_GRID)
        levels_many(
            solution.keep, hour, index_in(chain.slow, slow), index_in(np.log(chain.speed), np.log(speed)),
            chain.speed.size, np.array([self._gas(state, state.market.gas_gwei, state.market.native_usd)]),
            np.array([terms.fee]), np.array([terms.impact]), solution.step, solution.forced, outer, inner,
        )  # fmt: skip
        return outer, inner

    def _terms(self, state: State, chain: GasChain) -> Terms:
        """Return the programme's terms as they were when the gas process was learnt, at that process's usual gas."""
        then = self.memory.number("gas_gwei"), self.memory.number("native_usd")
        usual = self._gas(state, *then) * chain.usual / (then[0] * then[1] * 1e-9)
        impact = impact_per_square(state.nav_usd, self.memory.values["depth_usd"])
        return terms_of(geometry(state, self.memory.values["covariance"]), usual, impact)

    def _slices(self, state: State, base: Levels, outer: float, inner: float) -> tuple[float, float]:
        """Return (cap, resume): slices where price impact exceeds another gas payment, see ``programme.slices``."""
        shape = geometry(state, state.covariance)
        gas = self._gas(state, state.market.gas_gwei, state.market.native_usd)
        impact = impact_per_square(state.nav_usd, state.market.depth_usd)
        cap, resume = slices(
            np.array([gas]), impact[None], shape.square[None], np.array([outer]), np.array([inner]), np.ones(1),
            (np.array([base.cap]), np.array([base.resume])),
        )  # fmt: skip
        return float(cap[0]), float(resume[0])

    def _gas(self, state: State, gas_gwei: float, native_usd: float) -> float:
        """Return gas of a usual rebalance, a fraction of NAV, at a gas price."""
        base, leg = gas_lines(state.market.fees, gas_gwei, native_usd)
        return float(gas_of_swaps(float(base) / state.nav_usd, float(leg) / state.nav_usd, state.target.size))


def geometry(state: State, covariance: Matrix) -> Geometry:
    """Return the shape of the no-trade region of ``state`` under ``covariance`` (n, n) per hour."""
    return shape_of(state.scenario, state.gamma, state.target, state.tolerance, state.market.fee, covariance)


def shape_of(
    scenario: Scenario, gamma: float, target: Vector, tolerance: Vector, fee: Vector, covariance: Matrix
) -> Geometry:
    """Return the shape of the no-trade region of a portfolio under ``covariance`` (n, n) per hour."""
    n = target.size
    if scenario == "hard":
        exit_h, box_fee, box_square = bands.box_moves(covariance[None], target, tolerance, fee)
        return Geometry(True, 0.0, float(box_fee[0]), box_square[0], float(1.0 / exit_h[0]), target, covariance, None)
    M, growth = bands.shapes(covariance[None], target)
    unit_fee = 0.5 * bands.mean_moves(M, n) @ fee
    square = bands.mean_square_moves(M, n)[0]
    return Geometry(False, gamma, float(unit_fee[0]), square, float(growth[0]), target, covariance, M[0])

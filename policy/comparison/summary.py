"""The figures of a comparison: cost table, paired ratios, headroom and regimes, from weekly costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from lake.units import BPS, HOURS_PER_YEAR
from policy.base import Matrix, Vector
from policy.comparison import bootstrap
from policy.names import BASELINE, BOUND, CLAIMANT, IDLE, RULES, SIMPLE, traits
from policy.simulation.history import History
from policy.simulation.planner import Portfolio
from policy.simulation.simulator import FEE, GAS, IMPACT, TRACKING, Run
from policy.strategies.registry import CompareConfig

Cell = tuple[str, float]  # (scenario label, NAV)
REGIMES = ("calm", "volatile", "cheap_gas", "dear_gas")


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs by cell and policy.

    ``weekly[cell]`` is (policies, weeks): the mean over portfolios of bp of NAV a year, each week its share, so that
    portfolios count equally whatever their start.
    """

    names: tuple[str, ...]
    runs: dict[Cell, list[list[Run]]]  # [policy][portfolio]
    weekly: dict[Cell, Matrix]
    soft: dict[Cell, bool]
    drawn: Matrix
    first_week: int
    splits: dict[str, Vector]  # regime -> (weeks,) 1 or 0
    resolution: str = "hour"
    chosen: Mapping[Cell, str] = field(default_factory=dict)  # the band that was cheapest before the comparison

    @classmethod
    def of(
        cls,
        history: History,
        panel: Sequence[Portfolio],
        outcomes: Sequence[tuple[int, str, Run]],
        config: CompareConfig,
        past: Mapping[tuple[int, str], float] | None = None,
    ) -> CostTable:
        """Collect the outcomes of ``panel``; those of one portfolio come in the order of the policies.

        ``past`` holds costs before the comparison by (portfolio, policy), see ``experts.before``.
        """
        runs: dict[Cell, list[list[Run]]] = {}
        soft: dict[Cell, bool] = {}
        spent: dict[Cell, dict[str, float]] = {}
        for (position, policy), cost in (past or {}).items():
            own = spent.setdefault((panel[position].label or panel[position].scenario, panel[position].nav_usd), {})
            own[policy] = own.get(policy, 0.0) + cost
        chosen = {cell: min(own, key=own.__getitem__) for cell, own in spent.items()}
        for position, policy, run in outcomes:
            p = panel[position]
            cell = (p.label or p.scenario, p.nav_usd)
            soft[cell] = p.scenario == "soft"
            runs.setdefault(cell, [[] for _ in config.policies])[config.policies.index(policy)].append(run)
        week = history.week()
        low, high = int(week[history.first]), int(week[-2]) + 1
        weekly = {c: np.array([_weekly(r, soft[c], low, high) for r in by]) for c, by in runs.items()}
        drawn = bootstrap.counts(high - low, config.draws, config.seed)
        return cls(
            config.policies, runs, weekly, soft, drawn, low, _splits(history, low, high), config.resolution, chosen
        )

    def policies(self) -> list[dict[str, object]]:
        """Return one row a policy and cell: mean cost split in bp of NAV a year, trades, violations, tracking error."""
        rows: list[dict[str, object]] = []
        for (label, nav), by_policy in self.runs.items():
            for name, runs in zip(self.names, by_policy, strict=True):
                split = [float(np.mean([r.bp_a_year(c) for r in runs])) for c in (GAS, FEE, IMPACT, TRACKING)]
                total = sum(split if self.soft[label, nav] else split[:TRACKING])
                rows.append({
                    "policy": name, "scenario": label, "nav_usd": nav, "total_bp": total, "gas_bp": split[0],
                    "fee_bp": split[1], "impact_bp": split[2], "tracking_bp": split[3],
                    "trades_per_year": float(np.mean([r.trades * HOURS_PER_YEAR / r.steps for r in runs])),
                    "violations": int(sum(r.violations for r in runs)),
                    "violations_could_not": int(sum(r.violations_could_not for r in runs)),
                    "violations_did_not": int(sum(r.violations_did_not for r in runs)),
                    "te_annual": float(np.sqrt(np.mean([r.te_annual**2 for r in runs]))),
                    "turnover_per_year": float(np.mean([r.turnover * HOURS_PER_YEAR / r.steps for r in runs])),
                    "minutes_outside": float(np.mean([r.minutes_outside for r in runs])),
                    "gas_per_trade_usd": _gas_per_trade(runs, nav),
                    "wait_s": float(np.mean([0.0 if r.fine is None else r.fine.wait_s for r in runs])),
                    "unfilled": int(sum(0 if r.fine is None else r.fine.unfilled for r in runs)),
                })  # fmt: skip
        return rows

    def pairs(self) -> list[dict[str, object]]:
        """Return cost ratios a over b with intervals: every two policies, the later-named one as a.

        ``best_threshold`` and ``best_reactive`` stand for the cheapest of SIMPLE and of RULES in that cell (in the hard
        mandate only of those with no more avoidable violations than the mandate's own threshold), ``past_best`` for the
        band that was cheapest on mirrored pasts before the comparison; ``b_is`` names it.
        """
        rows: list[dict[str, object]] = []
        for cell, costs in self.weekly.items():
            by_name = dict(zip(self.names, costs, strict=True))
            for j, a in enumerate(self.names):
                others: list[tuple[str, str]] = [(b, b) for b in self.names[:j] if b != IDLE or self.soft[cell]]
                for alias, choices in (("best_threshold", SIMPLE), ("best_reactive", RULES)):
                    best = self.best(cell, choices)
                    if best is not None and a not in choices:
                        others.append((alias, best))
                if cell in self.chosen and traits(a).role != "reactive":
                    others.append(("past_best", self.chosen[cell]))
                for b, is_ in others:
                    found = bootstrap.ratio(by_name[a], by_name[is_], self.drawn)
                    rows.append({
                        "scenario": cell[0], "nav_usd": cell[1], "a": a, "b": b, "ratio": found.value,
                        "ci_low": found.low, "ci_high": found.high, "portfolios": len(self.runs[cell][j]),
                        "weeks": self.drawn.shape[1], "b_is": is_, "resolution": self.resolution,
                    })  # fmt: skip
        return rows

    def best(self, cell: Cell, choices: Sequence[str]) -> str | None:
        """Return the cheapest of ``choices`` in ``cell`` that keeps the hard mandate; None without any."""
        runs_of = zip(self.names, self.runs[cell], strict=True)
        broken = {n: sum(r.violations_did_not for r in runs) for n, runs in runs_of}
        cost = {n: float(c.sum()) for n, c in zip(self.names, self.weekly[cell], strict=True)}
        allowed = broken.get("threshold", min(broken.values()))
        kept = [n for n in choices if n in cost and (self.soft[cell] or broken[n] <= allowed)]
        return min(kept, key=cost.__getitem__) if kept else None

    def headroom(self) -> list[dict[str, object]]:
        """Return the share of the way from gas_band to foresight_gas that predictive covers, by cell."""
        needed = (BASELINE, CLAIMANT, BOUND)
        if any(n not in self.names for n in needed):
            return []
        rows: list[dict[str, object]] = []
        for (label, nav), costs in self.weekly.items():
            base, mine, best = (costs[self.names.index(n)] for n in needed)
            found = bootstrap.captured(base, mine, best, self.drawn)
            rows.append({
                "scenario": label, "nav_usd": nav, "captured": found.value, "ci_low": found.low, "ci_high": found.high,
                "headroom": 1.0 - float(best.sum() / base.sum()) if base.sum() else float("nan"),
            })  # fmt: skip
        return rows

    def regimes(self) -> pl.DataFrame:
        """Return each policy's cost over gas_band's in calm, volatile, cheap and expensive weeks (median splits)."""
        rows: list[dict[str, object]] = []
        if BASELINE in self.names:
            for (label, nav), costs in self.weekly.items():
                base = costs[self.names.index(BASELINE)]
                for regime, mask in self.splits.items():
                    for name, cost in zip(self.names, costs, strict=True):
                        found = bootstrap.ratio(cost * mask, base * mask, self.drawn)
                        rows.append({
                            "scenario": label, "nav_usd": nav, "regime": regime, "policy": name, "b": BASELINE,
                            "ratio": found.value, "ci_low": found.low, "ci_high": found.high, "weeks": int(mask.sum()),
                        })  # fmt: skip
        return pl.DataFrame(rows)


def _gas_per_trade(runs: Sequence[Run], nav_usd: float) -> float:
    """Return USD of gas a trade over all of ``runs``; 0 without any trade."""
    return float(sum(r.weekly[:, GAS].sum() for r in runs)) * nav_usd / max(sum(r.trades for r in runs), 1)


def _weekly(runs: Sequence[Run], soft: bool, low: int, high: int) -> Vector:
    """Return (weeks,) the mean over ``runs`` of weekly cost, scaled so that the sum is bp of NAV a year."""
    last = TRACKING + soft
    each = [r.weekly[low:high, :last].sum(axis=1) * (BPS * HOURS_PER_YEAR / r.steps) for r in runs]
    return np.asarray(np.mean(each, axis=0), dtype=np.float64)


def _splits(history: History, low: int, high: int) -> dict[str, Vector]:
    """Return regime masks over weeks by median: mean absolute hourly return over assets, and mean gas."""
    week = history.week()
    weeks = range(low, high)
    steps = [(week == w) & (np.arange(week.size) >= history.first) for w in weeks]
    calm = np.array([float(np.abs(history.returns[s]).mean()) for s in steps])
    gas = np.array([float(history.gas_gwei[s].mean()) for s in steps])
    quiet, cheap = calm <= np.median(calm), gas <= np.median(gas)
    masks = (quiet, ~quiet, cheap, ~cheap)
    return {name: mask.astype(np.float64) for name, mask in zip(REGIMES, masks, strict=True)}

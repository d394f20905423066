"""Policies of one portfolio on several chains, on one ledger: tuned on the first half, judged on the second.

The panel that tunes and the panel that is judged hold other baskets and meet other flows. Per policy one trigger is
tuned (a multiple of the exact band, and the floor of a fixed cash rule). Cost is in bp of NAV a year: gas, fee and
impact of trades, bridges with the charge for their risk, and tracking.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lake.errors import ConfigError, NotEnoughData
from lake.units import BPS, HOURS_PER_YEAR
from policy.base import Matrix, Vector
from policy.chains.transfer_costs import BridgeTerms
from policy.comparison.bootstrap import Interval, counts, ratio
from policy.costs import chain_fees
from policy.simulation import chain_books as books
from policy.simulation.chain_kernel import run
from policy.simulation.chain_world import (
    CHAIN_POLICIES,
    FLOORS,
    ChainCase,
    ChainPolicy,
    ChainTerms,
    at_floor,
    chain_case,
    foreseen,
    under,
)
from policy.simulation.history import History
from policy.simulation.planner import Portfolio, prepare
from policy.simulation.simulator import simulate
from policy.strategies.reactive import GAS_BAND

TRIGGERS = (0.5, 0.71, 0.84, 1.0, 1.19, 1.41, 2.0, 2.83, 4.0)
CLAIM, RIVALS = "global", ("alone", "naive", "netted", "alone_cash", "global_fixed")
COSTS = (books.GAS, books.FEE, books.IMPACT, books.BRIDGE, books.RISK, books.TRACKING)
NAVS = (1e5, 1e6, 1e7)
DRAWS, RISKY, CASH_SHARE = 2_000, 3, 0.20
LEAST_H = 8 * 7 * 24  # of each half: weeks are what intervals are drawn from

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ChainsConfig:
    """What is compared: ``portfolios`` baskets of RISKY assets and the ``cash`` asset at CASH_SHARE, seeded."""

    cash: str = "USDC"
    navs: tuple[float, ...] = NAVS
    portfolios: int = 16
    seed: int = 11
    gamma: float = 3.0
    threads: int = 2
    terms: ChainTerms = field(default_factory=ChainTerms)
    sensitivity: bool = True


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """One policy on one panel: (P, weeks, 8) books, tallies a portfolio, hours, and what it was tuned to."""

    books: Matrix
    tallies: Vector
    hours: int
    trigger: float
    floor: float | None

    @property
    def weekly(self) -> Vector:
        """(weeks,) cost of all portfolios."""
        return np.asarray(self.books[:, :, list(COSTS)].sum(axis=(0, 2)))


def panel(history: History, config: ChainsConfig, nav: float, seed: int) -> list[Portfolio]:
    """Return the baskets of ``seed``: RISKY of the history's assets, Dirichlet weights, and CASH_SHARE of cash.

    Raises NotEnoughData with fewer risky assets than a basket holds.
    """
    risky = [a for a in history.assets if a != config.cash]
    if len(risky) < RISKY or config.portfolios < 1:
        raise NotEnoughData(
            f"a basket holds {RISKY} assets and {config.cash}; there are {', '.join(risky) or 'none'} "
            f"and {config.portfolios} portfolios: import prices of more assets, or ask for 1 portfolio or more"
        )
    r, out = np.random.default_rng(seed), []
    span = history.when(history.first), history.when(len(history.ts) - 1)
    for i in range(config.portfolios):
        chosen = [risky[k] for k in np.sort(r.choice(len(risky), RISKY, replace=False))]
        target = np.append(r.dirichlet(np.full(RISKY, 4.0)) * (1.0 - CASH_SHARE), CASH_SHARE)
        out.append(Portfolio(
            f"chains-{nav:.0f}-{seed}-{i:03d}", "soft", (*chosen, config.cash), target, np.full(RISKY + 1, 0.05), nav,
            config.gamma, chain_fees(config.terms.chains[0]), *span,
        ))  # fmt: skip
    return out


@dataclass(frozen=True, slots=True)
class Panel:
    """Cases of one panel with the worlds of each cash rule: by floor, and foreseen (None)."""

    cases: tuple[ChainCase, ...]
    worlds: Mapping[float | None, tuple[books.ChainWorld, ...]]
    threads: int

    @classmethod
    def of(cls, history: History, config: ChainsConfig, nav: float, seed: int, terms: ChainTerms) -> Panel:
        """Return the panel of ``seed`` on the chains of ``terms``; flows have streams of their own."""
        some = panel(history, config, nav, seed)
        cases = tuple(chain_case(history, p, config.cash, terms, 1_000 * seed + i) for i, p in enumerate(some))
        worlds: dict[float | None, tuple[books.ChainWorld, ...]] = {
            f: tuple(at_floor(c, f) for c in cases) for f in FLOORS
        }
        worlds[None] = tuple(foreseen(c, history.first) for c in cases)
        return cls(cases, worlds, config.threads)

    def run(self, policy: ChainPolicy, trigger: float, floor: float | None, span: tuple[int, int]) -> ChainOutcome:
        """Return the outcome of ``policy`` over the steps of ``span``."""
        weeks = int(self.cases[0].world.week[-1]) + 1
        spent, tallies = np.zeros((len(self.cases), weeks, 8)), np.zeros((len(self.cases), 6))

        def one(i: int) -> None:
            case = under(self.cases[i], policy, trigger, self.worlds[floor][i])
            run(case.world, case.rules, *span, spent[i], tallies[i])

        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            list(pool.map(one, range(len(self.cases))))
        return ChainOutcome(spent, tallies.mean(axis=0), span[1] - span[0], trigger, floor)


def tuned(panel_: Panel, policy: ChainPolicy, span: tuple[int, int], triggers: Sequence[float]) -> ChainOutcome:
    """Return the outcome of the cheapest trigger (and floor, of a fixed cash rule) over ``span``."""
    floors: tuple[float | None, ...] = FLOORS if policy.fills and not policy.foresees else (None,)
    found = [panel_.run(policy, t, f, span) for t, f in itertools.product(triggers, floors)]
    return min(found, key=lambda o: float(o.weekly.sum()))


def halves(history: History) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the steps that tune and those that are judged; NotEnoughData where either is under LEAST_H hours."""
    first, last = history.first, len(history.ts) - 1
    middle = (first + last) // 2
    if middle - first < LEAST_H:
        raise NotEnoughData(
            f"{last - first} hours with prices and gas; a comparison of chains tunes on one half and judges on the "
            f"other: {2 * LEAST_H} are needed, import more or widen the span"
        )
    return (first, middle), (middle, last)


def cell(
    history: History, config: ChainsConfig, nav: float, label: str, progress: Progress | None = None
) -> tuple[dict[str, Any], dict[str, ChainOutcome]]:
    """Return one NAV's figures and outcomes: every policy tuned on one panel, judged on the other."""
    before, after = halves(history)
    teach = Panel.of(history, config, nav, config.seed, config.terms)
    judge = Panel.of(history, config, nav, config.seed + 1, config.terms)
    found: dict[str, ChainOutcome] = {}
    for i, (name, policy) in enumerate(CHAIN_POLICIES.items()):
        best = tuned(teach, policy, before, TRIGGERS)
        found[name] = judge.run(policy, best.trigger, best.floor, after)
        if progress is not None:
            progress(f"{label} {nav:,.0f}", i + 1, len(CHAIN_POLICIES))
    return _figures(label, nav, found, config), found


def shifted(
    history: History, config: ChainsConfig, nav: float, label: str, terms: ChainTerms, base: Mapping[str, ChainOutcome]
) -> dict[str, Any]:
    """Return the figures with other ``terms`` at the triggers tuned for ``base``: what moves is the world alone."""
    judge = Panel.of(history, config, nav, config.seed + 1, terms)
    span = halves(history)[1]
    found = {n: judge.run(p, base[n].trigger, base[n].floor, span) for n, p in CHAIN_POLICIES.items()}
    return _figures(label, nav, found, config)


def _figures(label: str, nav: float, found: Mapping[str, ChainOutcome], config: ChainsConfig) -> dict[str, Any]:
    mine = found[CLAIM].weekly
    drawn = counts(int(np.count_nonzero(mine)), DRAWS, config.seed)
    kept = np.flatnonzero(mine)
    pairs = []
    for rival in RIVALS:
        over = ratio(mine[kept], found[rival].weekly[kept], drawn)
        pairs.append({"policy": CLAIM, "against": rival, "ratio": over.value, "low": over.low, "high": over.high})
    rows = [_row(name, o) for name, o in found.items()]
    alone = next(r["total_bp"] for r in rows if r["policy"] == "alone")
    for r in rows:
        r["saved_vs_alone_bp"] = alone - r["total_bp"]
    return {"cell": label, "nav_usd": nav, "policies": rows, "pairs": pairs}


def _row(name: str, o: ChainOutcome) -> dict[str, Any]:
    year = o.hours / HOURS_PER_YEAR
    bp = o.books.sum(axis=1).mean(axis=0) * BPS / year
    n = o.tallies / year
    return {
        "policy": name, "trigger": o.trigger, "floor": o.floor,
        "total_bp": float(bp[list(COSTS)].sum()), "gas_bp": float(bp[books.GAS]), "fee_bp": float(bp[books.FEE]),
        "impact_bp": float(bp[books.IMPACT]), "bridge_bp": float(bp[books.BRIDGE] + bp[books.RISK]),
        "risk_bp": float(bp[books.RISK]), "tracking_bp": float(bp[books.TRACKING]),
        "trades": float(n[books.PLANS]), "transfers": float(n[books.TRANSFERS]), "at_once": float(n[books.FAST]),
        "forced_sales": float(n[books.FORCED]), "moved_nav": float(n[books.MOVED]),
        "withdrawals": float(n[books.OUTFLOWS]),
    }  # fmt: skip


def changes(terms: ChainTerms) -> tuple[tuple[str, float, ChainTerms], ...]:
    """Return the cells of the sensitivity table: label, NAV, terms."""

    def bridge(**more: float) -> BridgeTerms:
        return replace(terms.bridge, **more)  # type: ignore[arg-type]

    return (
        ("flows x2", 1e6, replace(terms, flow_size=2.0)),
        ("flows x0.5", 1e6, replace(terms, flow_size=0.5)),
        ("no flows", 1e6, replace(terms, flow_size=0.0)),
        ("bridge fee 5 bp", 1e6, replace(terms, bridge=bridge(fee=5e-4))),
        ("risk 5 bp", 1e6, replace(terms, bridge=bridge(risk=5e-4))),
        ("transit 24 h", 1e6, replace(terms, bridge=bridge(hours=24.0))),
        ("blob data 1/20", 1e5, replace(terms, data_price=0.05)),
        ("blob data 1/20", 1e6, replace(terms, data_price=0.05)),
        ("other depth 5 %", 1e7, replace(terms, depth_share=0.05)),
        ("other depth 100 %", 1e7, replace(terms, depth_share=1.0)),
    )


def collapse(history: History, config: ChainsConfig, nav: float) -> list[dict[str, Any]]:
    """Return what ``global`` costs over ``gas_band`` of one chain, without flows: on one chain, and on equal ones.

    ``gas_band`` runs on the ledger of one chain, at the exact band; so does ``global``. ``low`` and ``high`` are the
    interval of weeks drawn whole; ``elsewhere`` has the ratio on the other half and the other panel (nothing is tuned
    here, so they are as good as the judged one): without flows trades are few, and one half-year decides little.
    """
    before, after = halves(history)
    still = replace(config.terms, flow_size=0.0)
    one, equal = replace(still, chains=still.chains[:1]), replace(still, equal_gas=True, depth_share=1.0)
    rows = []
    for label, terms in (("one chain, no flows", one), ("equal gas, no flows", equal)):
        where = itertools.product((config.seed + 1, config.seed), (after, before))
        wanted = list(where)[: 4 if terms is equal else 1]
        mine, *others = [_over_today(history, replace(config, seed=s), nav, (terms, one), span) for s, span in wanted]
        rows.append({
            "cell": label, "nav_usd": nav, "over_today": mine.value, "low": mine.low, "high": mine.high,
            "elsewhere": [o.value for o in others],
        })  # fmt: skip
    return rows


def _over_today(
    history: History, config: ChainsConfig, nav: float, terms: tuple[ChainTerms, ChainTerms], span: tuple[int, int]
) -> Interval:  # fmt: skip
    """Return the cost of ``global`` on the first of ``terms`` over that of gas_band on the second, by week."""
    own = np.sum([_today(history, p, config, terms[1], span) for p in panel(history, config, nav, config.seed)], axis=0)
    mine = Panel.of(history, config, nav, config.seed, terms[0]).run(CHAIN_POLICIES[CLAIM], 1.0, None, span).weekly
    kept = np.flatnonzero((mine > 0.0) | (own > 0.0))
    return ratio(mine[kept], own[kept], counts(kept.size, DRAWS, config.seed))


def _today(history: History, p: Portfolio, config: ChainsConfig, terms: ChainTerms, span: tuple[int, int]) -> Vector:
    """Return what gas_band costs a week on the first chain by the ledger of one chain; cash moves no pool."""
    size = np.array([terms.depth_of.get(a, 1.0) for a in history.assets])
    size[history.assets.index(config.cash)] = np.inf
    case = prepare(replace(history, depth_usd=history.depth_usd * size), p)
    spent = simulate(case, GAS_BAND.levels_over(case), history.week(), log=False, span=span).weekly
    return np.asarray(spent[:, :4].sum(axis=1))


def compare_chains(history: History, config: ChainsConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Return cells by NAV, the sensitivity table, the collapse to one chain, and what the cash forecast adds.

    Raises ConfigError for an unknown cash asset, NotEnoughData where the history is too short.
    """
    if config.cash not in history.assets:
        raise ConfigError(f"cash asset {config.cash!r} is none of {', '.join(history.assets)}; name it with --cash")
    cells, tuned_at = [], dict[float, dict[str, ChainOutcome]]()
    for nav in config.navs:
        figures, tuned_at[nav] = cell(history, config, nav, "base", progress)
        cells.append(figures)
    table = []
    if config.sensitivity:
        wanted = [c for c in changes(config.terms) if c[1] in tuned_at]
        for i, (label, nav, terms) in enumerate(wanted):
            table.append(shifted(history, config, nav, label, terms, tuned_at[nav]))
            if progress is not None:
                progress("sensitivity", i + 1, len(wanted))
    return {
        "chains": list(config.terms.chains), "cash": config.cash, "portfolios": config.portfolios,
        "seed": config.seed, "from": history.when(halves(history)[1][0]).isoformat(),
        "to": history.when(len(history.ts) - 1).isoformat(), "notes": list(history.notes), "cells": cells,
        "sensitivity": table, "collapse": [row for nav in config.navs for row in collapse(history, config, nav)],
    }  # fmt: skip

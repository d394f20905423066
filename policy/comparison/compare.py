"""The comparison: policies on the panel, judged on one ledger.

``run`` is the whole; ``learn_chunk`` and then ``simulate_chunk`` are the parts that travel to another thread, process
or machine: they take and return plain records, and their figures do not depend on how the panel was cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import polars as pl

from lake.store import Lake
from policy.base import Matrix
from policy.comparison import artifacts, rebalancing_premium, resolved, summary
from policy.comparison.outcomes import PortfolioRun
from policy.names import BANDS
from policy.simulation import channels
from policy.simulation.history import History, load
from policy.simulation.panel import holdable, portfolios
from policy.simulation.planner import BandRule, Case, Portfolio, prepare
from policy.simulation.simulator import simulate
from policy.strategies.experts import Kind, before, kind_of
from policy.strategies.lessons import keep_lessons, recall_lessons
from policy.strategies.predictive import Predictive
from policy.strategies.reactive import GAS_BAND
from policy.strategies.registry import CompareConfig, planners

Progress = Callable[[int, int], None]
"""Called with (parts done, parts in all); a part is a kind of portfolio learnt about, or a portfolio simulated."""
Spread = Callable[[Callable[..., list[Any]], Sequence[tuple[object, ...]]], Iterable[list[Any]]]
"""Maps a function over argument tuples, in order."""
Engine = AbstractContextManager[Spread]
"""What is entered for as long as a panel runs; another machine plugs in here."""

HOURLY_PICTURES = "pictures of single portfolios follow the hourly ledger"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found: ``json`` is the documented summary, the frames are its artifacts."""

    json: dict[str, object]
    portfolios: pl.DataFrame
    trades: pl.DataFrame
    weekly: pl.DataFrame
    series: pl.DataFrame  # example portfolios, every policy on one step axis
    regimes: pl.DataFrame
    history: History
    notes: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the predictive policy learnt about a kind of portfolio: (windows, members) weights, and the seconds."""

    kind: Kind
    weights: Matrix
    seconds: float


@runtime_checkable
class Teachable(Protocol):
    """A planner that lessons can be handed to."""

    def taught(self, lessons: Mapping[Kind, Matrix]) -> BandRule:
        """Return it with ``lessons``."""
        ...


def learn_chunk(policy: Predictive, kinds: Sequence[Kind]) -> list[Lesson]:
    """Return what ``policy`` learns about ``kinds``; pure and picklable."""
    out = []
    for kind in kinds:
        began = time.perf_counter()
        weights = policy.learn(kind)
        out.append(Lesson(kind, weights, time.perf_counter() - began))
    return out


def simulate_chunk(
    history: History, chunk: Sequence[tuple[int, Portfolio]], rules: Sequence[BandRule]
) -> list[PortfolioRun]:
    """Return the outcomes of ``rules`` on the (position, portfolio) pairs of ``chunk``; pure and picklable."""
    week = history.week()
    out: list[PortfolioRun] = []
    last: dict[str, Case] = {}
    for position, portfolio in chunk:
        like = last.get(portfolio.scenario) or next(iter(last.values()), None)
        case = last[portfolio.scenario] = prepare(history, portfolio, like)
        prices = rebalancing_premium.PathPrices.of(case.returns[case.first : case.last], portfolio.target)
        for rule in rules:
            began = time.perf_counter()
            schedule = rule.levels_over(case)
            planned = time.perf_counter()
            run = simulate(case, schedule, week)
            done = time.perf_counter()
            columns = artifacts.trade_columns(case, run)
            growth = rebalancing_premium.premium(run, prices, case.first)
            past = before(case, schedule, position) if rule.name in BANDS else None
            out.append(PortfolioRun(position, rule.name, run, columns, planned - began, done - planned, growth, past))
    return out


def run(
    lake: Lake,
    config: CompareConfig,
    progress: Progress | None = None,
    engine: Engine | None = None,
    own: Sequence[BandRule] = (),
) -> Comparison:
    """Compare ``config.policies``, then the caller's ``own``, on the panel of ``config`` and return what was found.

    The same lake and settings give the same figures to the last digit, whatever the engine (timing apart). Raises
    ConfigError for unknown policies, NotEnoughData where prices or gas do not reach.
    """
    history = load(
        lake, config.start, config.end, config.assets, config.native, config.pools, config.chain_id, config.source
    )
    hourly, looks = resolved.names_at(config.resolution, config.policies)
    rules = planners(history, lake, replace(config, policies=hourly), own) if hourly or own or not looks else ()
    made = {name: rule.name for name, rule in zip(hourly, rules, strict=False)}
    config = replace(config, policies=(*(made.get(n, n) for n in config.policies), *(p.name for p in own)))
    panel = portfolios(
        history, config.portfolios, config.seed, config.start, config.end, config.cells, config.starts, config.largest
    )
    notes = (*history.notes, *holdable(history, config.start, config.end, config.starts)[1])
    with engine or over_threads(config.threads) as spread:
        began = time.perf_counter()
        rules, lessons = learn(spread, lake, panel, rules, progress)
        chunk = partial(simulate_chunk, history, rules=rules)
        if config.resolution != "hour":
            field_ = resolved.field_of(lake, history, config)
            notes = (*notes, *field_.world.notes, HOURLY_PICTURES)
            chunk = partial(resolved.simulate_chunk, history, field_, rules=rules, looks=looks)
        outcomes = _simulate(spread, chunk, panel, len(config.cells), len(lessons), progress)
        wall = time.perf_counter() - began
    past = {(o.portfolio, o.policy): o.past for o in outcomes if o.past is not None}
    table = summary.CostTable.of(history, panel, [(o.portfolio, o.policy, o.run) for o in outcomes], config, past)
    steps = sum(o.run.steps for o in outcomes)
    simulated = sum(o.simulate_s for o in outcomes)
    planned = sum(o.plan_s for o in outcomes) + sum(lesson.seconds for lesson in lessons)
    timing = {
        "portfolio_steps": steps, "simulate_s": simulated, "features_s": 0.0, "train_s": 0.0, "predict_s": 0.0,
        "decide_s": planned, "wall_s": wall,
    }  # fmt: skip
    regimes = table.regimes()
    trades = artifacts.trade_frame(history, panel, [(o.portfolio, o.policy, o.trades) for o in outcomes])
    by_channel = channels.priced(trades, panel)
    json: dict[str, object] = {
        "schema": 1,
        "data": {
            "start": config.start.isoformat(), "end": config.end.isoformat(), "assets": list(history.assets),
            "hours": history.hours, "resolution": config.resolution, "sha256": history.sha256, "notes": list(notes),
        },
        "policies": [row | {"channels": by_channel.get(channels.cell(row))} for row in table.policies()],
        "pairs": table.pairs(),
        "headroom": table.headroom(),
        "regimes": regimes.to_dicts(),
        "premium": rebalancing_premium.rows(
            config.policies, panel, [(o.portfolio, o.policy, o.premium) for o in outcomes]
        ),
        "forecasts": [],
        "timing": timing,
    }  # fmt: skip
    return Comparison(
        json,
        artifacts.portfolio_frame(panel),
        trades,
        artifacts.weekly_frame(history, panel, [(o.portfolio, o.policy, o.run) for o in outcomes]),
        artifacts.series_frame(history, panel, rules or (GAS_BAND,)),
        regimes,
        history,
        notes,
    )


def learn(
    spread: Spread, lake: Lake, panel: Sequence[Portfolio], rules: Sequence[BandRule], progress: Progress | None
) -> tuple[tuple[BandRule, ...], list[Lesson]]:
    """Return ``rules`` taught about every kind of the panel, and the lessons that were not in the lake yet.

    Learning comes before simulating: two threads would wait for the same lesson, two processes would learn it twice.
    """
    learner = next((rule for rule in rules if isinstance(rule, Predictive) and rule.learns), None)
    if learner is None:
        return tuple(rules), []
    kinds = list(dict.fromkeys(kind_of(p, p.swap_fee) for p in panel))
    known = recall_lessons(lake, learner, kinds)
    missing = [kind for kind in kinds if kind not in known]
    lessons: list[Lesson] = []
    for learnt in spread(learn_chunk, [(learner, [kind]) for kind in missing]):
        lessons += learnt
        if progress is not None:
            progress(len(lessons), len(missing) + len(panel))
    new = {lesson.kind: lesson.weights for lesson in lessons}
    keep_lessons(lake, learner, new)
    return tuple(rule.taught(known | new) if isinstance(rule, Teachable) else rule for rule in rules), lessons


def _simulate(
    spread: Spread,
    work: Callable[[Sequence[tuple[int, Portfolio]]], list[PortfolioRun]],
    panel: Sequence[Portfolio],
    size: int,
    done: int,
    progress: Progress | None,
) -> list[PortfolioRun]:
    """Return the outcomes of ``work`` on the panel, in chunks of ``size`` portfolios; ``done`` parts lie behind."""
    numbered = list(enumerate(panel))
    outcomes: list[PortfolioRun] = []
    for run in spread(work, [(numbered[i : i + size],) for i in range(0, len(panel), size)]):
        outcomes += run
        if progress is not None:
            progress(done + len({o.portfolio for o in outcomes}), done + len(panel))
    return outcomes


@contextmanager
def over_threads(threads: int) -> Iterator[Spread]:
    """Yield a map over ``threads`` threads of this process."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        yield lambda work, chunks: pool.map(lambda chunk: work(*chunk), chunks)

"""From settings to objects: the one place that knows which implementation a setting means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lake.store import Lake
from lake.units import DAY_S, HOUR_S, duration, utc
from pipelines.hedge_section import PositionsSection
from pipelines.sections import ChainSection, ExchangeSection, LakeSection, MandateSection, Sources
from pipelines.settings import Settings, lake_options, replay
from pipelines.vault_settings import VaultSettings

if TYPE_CHECKING:
    from lake.rpc import Rpc
    from lake.sources.base import Source
    from models.base import Family
    from models.config import ModelConfig
    from policy.execution.checks.rules import Mandate
    from policy.realtime.looks import Resolution
    from policy.simulation.gas_minutes import Cheapest
    from policy.strategies.registry import CompareConfig

EVERY_HOUR = "* * * *"  # the other fields of a cron that runs once an hour


class HasLake(Protocol):
    """What names a lake, of a project or of one of its vaults: the section, and the folder that paths start from."""

    @property
    def lake(self) -> LakeSection:
        """The section [lake]."""
        ...

    def path(self, relative: str) -> Path:
        """Return a project path, absolute."""
        ...


def lake_of(project: HasLake) -> Lake:
    """Return the project's lake: an S3 URL as it is, a folder relative to the settings file."""
    path = project.lake.path
    return Lake(path if "://" in path else str(project.path(path)), lake_options(project.lake))


def now() -> datetime:
    """Return the present moment, UTC; under FOREDRIFT_REPLAY the moment that the replay has reached."""
    replayed = replay()
    if replayed is None:
        return datetime.now(UTC)
    simulated, real, speed = replayed
    return simulated + (datetime.now(UTC) - real) * speed


def rpc_of(chain: ChainSection) -> Rpc:
    """Return the configured nodes behind one client; raises ConfigError when none is configured."""
    from lake.errors import ConfigError
    from lake.rpc import Rpc

    urls = [u.get_secret_value() for u in chain.rpc_urls]
    if not urls:
        raise ConfigError("no node is configured: set [chain] rpc_urls")
    return Rpc(urls)


def operators(chain: ChainSection) -> dict[str, list[str]]:
    """Return the URLs in [chain] rpc_urls by operator: the same host and port is the same one, whatever the key."""
    from urllib.parse import urlsplit

    found: dict[str, list[str]] = {}
    for secret in chain.rpc_urls:
        url = secret.get_secret_value()
        found.setdefault(urlsplit(url).netloc.rsplit("@", 1)[-1].lower(), []).append(url)
    return found


def mandate_of(given: MandateSection, assets: int) -> Mandate:
    """Return the mandate of a vault of ``assets`` that holds none on chain: the simulated one, a Safe."""
    from lake.units import BPS
    from policy.execution.checks.rules import PPB, Mandate

    return Mandate(
        leg_loss_bps=given.max_slippage_bps,
        turnover_bps=given.max_turnover_bps,
        loss_budget_ppb=given.loss_budget_bps * PPB // BPS,
        long_budget_ppb=max(Mandate().long_budget_ppb, given.loss_budget_bps * PPB // BPS),
        life_budget_ppb=PPB,  # no owner is there to resume a vault that paused itself
        strikes=255,
        max_legs=max(8, assets),
    )


def sources_of(settings: Settings) -> list[Source]:
    """Return the configured sources, in the order they are collected."""
    given = settings.sources
    found: list[Source] = []
    if given.sample is not None:
        from lake.sources import sample

        begin = utc(given.sample.start) if given.sample.start else sample.START
        if given.sample.start and given.sample.hours:
            found += sample.sources(start=begin, hours=given.sample.hours, seed=given.sample.seed)
        else:
            found += sample.growing(now(), start=begin, seed=given.sample.seed)
    if given.exchange is not None:
        found += _exchange(given.exchange)
    if given.blocks is not None:
        from lake.sources.blocks import BlockSource
        from lake.sources.heads import HeadSource
        from lake.universe import chain

        found.append(BlockSource(rpc_of(settings.chain), chain(settings.chain.id), duration(given.blocks.every)))
        if given.blocks.heads:
            found.append(HeadSource(rpc_of(settings.chain), chain(settings.chain.id)))
    found += _onchain(given, settings.chain)
    found += _signals(given.signals, settings.portfolio.assets)
    found += _positions(settings.positions, settings.chain)
    found += _own(settings)
    return found


def _positions(rows: Sequence[PositionsSection], given: ChainSection) -> list[Source]:
    """Return the sources of every portfolio whose book is on the chain."""
    if not rows:
        return []
    from lake.sources.positions import Holdings, position_sources
    from lake.universe import chain

    rpc, where = rpc_of(given), chain(given.id)
    return [
        source
        for r in rows
        for source in position_sources(rpc, where, r.portfolio, Holdings(
            r.holder, r.tokens, r.yields, r.v3_manager, r.v3_ids, r.perps, r.options
        ))
    ]  # fmt: skip


def _own(settings: Settings) -> list[Source]:
    """Return the sources of installed packages named in [sources.own]: entry points of the group ``foredrift.sources``.

    Each is a factory ``(options, settings) -> Sequence[Source]``; ``options`` is its own table.
    """
    from importlib.metadata import entry_points

    from lake.errors import ConfigError

    given = settings.sources.own
    known = {e.name: e for e in entry_points(group="foredrift.sources")} if given else {}
    if missing := sorted(set(given) - set(known)):
        have = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"[sources.own] {', '.join(missing)}: no installed package has it (installed: {have})")
    return [source for name, options in given.items() for source in known[name].load()(options, settings)]


def _exchange(given: ExchangeSection) -> list[Source]:
    from lake.errors import ConfigError
    from lake.sources import exchange

    if not given.symbols:
        raise ConfigError('[sources.exchange] needs symbols, for example { BTC = "BTC/USDT" }')
    step = int(duration(given.step).total_seconds())
    return list(exchange.sources(given.exchange, given.symbols, step, given.url))


def _onchain(given: Sources, home: ChainSection) -> list[Source]:
    if not given.pools and not given.feeds:
        return []
    from lake.sources.oracles import OracleSource
    from lake.sources.pools import PoolSource
    from lake.universe import chain

    rpc, row = rpc_of(home), chain(home.id)
    listed = [p for p in given.pools if p.venue != "erc4626"]  # a rate, read where it is used, and no pool
    pools: list[Source] = [PoolSource(rpc, row, p.address, p.venue, p.quote) for p in listed]
    return pools + [OracleSource(rpc, row, f.address) for f in given.feeds]


def _signals(names: Sequence[str], assets: Sequence[str]) -> list[Source]:
    if not names:
        return []
    from lake.sources import signals

    made: dict[str, list[Source]] = {
        "fear_greed": [signals.FearGreedSource()],
        "funding": [signals.FundingSource(a, f"{a}USDT") for a in assets],
        "headlines": [signals.HeadlineSource()],
    }
    return [source for name in names for source in made[name]]


def families_of() -> dict[str, Family]:
    """Return the forecaster families by name."""
    from models.families import families

    return {name: row.make() for name, row in families().items()}


def model_config(deployment: VaultSettings) -> ModelConfig:
    """Return the forecasters' configuration."""
    from models.config import ModelConfig

    given, portfolio = deployment.models, deployment.portfolio
    window = None if given.train_window is None else int(duration(given.train_window).total_seconds() // DAY_S)
    return ModelConfig(
        assets=portfolio.assets,
        targets=portfolio.weights,
        tolerance=portfolio.caps,
        chain_id=deployment.chain.history,
        native=deployment.chain.native,
        trade_sizes_usd=tuple(float(s) for s in given.trade_sizes_usd),
        train_window_days=window,
        refit_every_days=max(1, int(duration(given.refit_every).total_seconds() // DAY_S)),
        embargo_h=int(duration(given.embargo).total_seconds() // HOUR_S),
        seed=given.seed,
        threads=given.threads or (os.cpu_count() or 1),
        rounds=given.rounds,
        tune_seconds=float(given.tune_seconds) if given.tune else 0.0,
    )


@dataclass(frozen=True, slots=True)
class PanelChoice:
    """What was asked to be compared; None: as the settings say.

    ``skill`` replaces the gas forecasts by skill x truth + (1 - skill) x noise. ``resolution`` "5m" or "block" looks
    within the hour; ``flat_gas`` then holds gas at each hour's mean.
    """

    portfolios: int | None = None
    policies: Sequence[str] | None = None
    skill: float | None = None
    resolution: Resolution = "hour"
    flat_gas: bool = False


def compare_config(
    deployment: VaultSettings,
    span: tuple[datetime, datetime],
    asked: PanelChoice,
) -> CompareConfig:
    """Return the panel's configuration: settings, overridden by what was asked for.

    Finer than the hour, hourly rules act at the minute of the schedule's rebalance (the default's for a cron of
    several) as it was known at the start, and the policies not named are the rules that a finer ledger tells apart.
    """
    from policy.realtime.looks import defaults
    from policy.simulation.panel import DEFAULT_CELLS
    from policy.strategies.registry import NAMES, CompareConfig

    given = deployment.compare
    others = NAMES if asked.resolution == "hour" else defaults(asked.resolution)
    minute = cron_at(deployment, span[0]).split()[0]
    cells = tuple(c for c in DEFAULT_CELLS if c.nav_usd in given.nav_usd and c.scenario in given.scenarios)
    return CompareConfig(
        start=span[0],
        end=span[1],
        portfolios=asked.portfolios or given.portfolios,
        policies=tuple(asked.policies or (given.policies if asked.resolution == "hour" else ()) or others),
        seed=given.seed,
        cells=cells,
        assets=given.assets or deployment.portfolio.assets,
        native=deployment.chain.native,
        chain_id=deployment.chain.history,
        draws=given.bootstrap,
        threads=deployment.models.threads or (os.cpu_count() or 1),
        skill=asked.skill,
        resolution=asked.resolution,
        minute=int(minute) if minute.isdecimal() else 6,
        flat_gas=asked.flat_gas,
    )


def cheapest_at(deployment: VaultSettings, lake: Lake, at: datetime) -> Cheapest | None:
    """Return the cheapest minute of the hour that ``lake`` knows of at ``at``, after the forecasts of the hour.

    None for a cron that does not run once an hour, and without days enough of gas finer than the hour.
    """
    from policy.simulation.block_world import recorded_windows
    from policy.simulation.gas_minutes import cheapest

    minute, rest = deployment.cron.split(maxsplit=1)
    if not minute.isdecimal() or rest != EVERY_HOUR:
        return None
    ahead = deployment.schedule.forecast.split()[0]
    after = int(ahead) if ahead.isdecimal() else -1
    return cheapest(recorded_windows(lake, deployment.chain.history, at), int(minute), after)


def cron_at(deployment: VaultSettings, at: datetime) -> str:
    """Return when the rebalance runs, as the lake knows at ``at``: its cron, or that at the minute proven cheapest.

    A lake that does not answer leaves the cron as it is: where it is read for a decision it says so.
    """
    from lake.errors import ForedriftError

    if not deployment.schedule.cheapest_minute:
        return deployment.cron
    try:
        found = cheapest_at(deployment, lake_of(deployment), at)
    except (ForedriftError, OSError):
        return deployment.cron
    return f"{found.minute} {EVERY_HOUR}" if found is not None and found.proven else deployment.cron

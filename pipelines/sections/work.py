"""How forecasters are trained and policies compared, when that is done, and how it is watched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.sections.base import Section
from pipelines.setting_types import Cron, Distinct, Duration, Name, PolicyName, PositiveDuration, SecretUrl, Zone


class ModelsSection(Section):
    """How forecasters are trained."""

    refit_every: PositiveDuration = Field(
        default="14d", description="Length of a fold; shorter follows the market closer and trains longer."
    )
    train_window: PositiveDuration | None = Field(
        default=None, description="History that a fold learns from; unset: all of it."
    )
    embargo: Duration = Field(default="1h", description="Gap between what a fold learns from and what it forecasts.")
    expiry: PositiveDuration = Field(
        default="45d", description="An older model abstains and the fallback policy decides."
    )
    trade_sizes_usd: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Distinct] = Field(
        default=(10_000, 100_000, 1_000_000), description="Trades whose slippage is forecast, USD."
    )
    seed: int = Field(default=7, description="Seed of training, a plain number.")
    threads: int = Field(default=0, ge=0, description="Number of threads; 0: one a core.")
    rounds: int = Field(
        default=120, ge=1, description="Number of boosting rounds; fewer train faster and forecast worse."
    )
    tune: bool = Field(
        default=False, description="Search booster parameters of every family inside each fold, on its own past."
    )
    tune_seconds: int = Field(
        default=60, ge=1, description="Seconds of that search for a target of a fold; it ends with what it has."
    )


class CompareSection(Section):
    """The panel that policies are compared on."""

    portfolios: int = Field(
        default=32, ge=1, description="Number of baskets; each appears in every cell of mandate, NAV and chain."
    )
    policies: Annotated[tuple[PolicyName, ...], Distinct] = Field(
        default=(), description="Policies to compare; empty: all of them."
    )
    assets: Annotated[tuple[Name, ...], Distinct] = Field(
        default=(), description="Assets of the baskets; empty: those of the portfolio."
    )
    nav_usd: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Distinct] = Field(
        default=(100_000.0, 1_000_000.0, 10_000_000.0), description="Sizes of the portfolios, USD."
    )
    scenarios: Annotated[tuple[Literal["soft", "hard"], ...], Distinct] = Field(
        default=("soft", "hard"), description="Mandates to compare under."
    )
    seed: int = Field(default=7, description="Seed of the panel, a plain number.")
    bootstrap: int = Field(
        default=1_000, ge=100, description="Number of resamples of the intervals; fewer are faster and coarser."
    )


class ScheduleSection(Section):
    """When the deployments run (cron in ``timezone``), and whether the scheduled rebalance executes its plans.

    ``live`` is a setting of the project, never a parameter of a run.
    """

    live: bool | None = Field(
        default=None,
        description="Whether scheduled runs execute what they decide; unset: those of a paper vault alone.",
    )
    timezone: Zone = Field(default="UTC", description="IANA time zone of the crons.")
    ingest: Cron = Field(default="2 * * * *", description="When data are collected, cron.")
    forecast: Cron = Field(default="4 * * * *", description="When forecasts are issued, cron.")
    rebalance: Cron = Field(
        default="6 * * * *", description="When a decision is asked for, cron; one is taken an hour, however often."
    )
    cheapest_minute: bool = Field(
        default=False,
        description="Whether an hourly rebalance runs at the minute of the hour at which the lake proves gas cheapest "
        "(`foredrift thresholds` prints it with its error) instead of its cron's; unproven, the cron's stays.",
    )
    retrain: Cron = Field(default="30 3 * * 1", description="When forecasters are trained anew, cron.")
    compare: Cron = Field(default="0 5 1 * *", description="When policies are compared anew, cron.")
    max_late: PositiveDuration = Field(
        default="15m", description="A rebalance run that starts later than this declines."
    )
    work_pool: Name = Field(default="foredrift", description="Name of the scheduler's work pool, where one is used.")


class KeepSection(Section):
    """How ``foredrift keep`` follows the chain: ``ws`` announces blocks, ``http`` nodes are asked for the truth."""

    ws: SecretUrl | None = Field(
        default=None, description="Websocket that announces blocks; unset: the nodes are polled every half block time."
    )
    http: Annotated[tuple[SecretUrl, ...], Distinct] = Field(
        default=(),
        description="Nodes asked for the truth, two of different operators where money is kept; empty: those of "
        "[chain] rpc_urls.",
    )
    workers: int = Field(default=4, ge=1, le=64, description="Number of decision cycles of different vaults at once.")
    serve: bool = Field(
        default=False,
        description="Whether `foredrift serve` keeps the vaults too, in processes that it starts, watches and ends; "
        "they execute where [schedule] live lets scheduled runs.",
    )


class WatchSection(Section):
    """Logs, metrics and notifications. Apprise URLs come from FOREDRIFT_NOTIFY (space separated)."""

    prometheus_port: int | None = Field(
        default=None, ge=1, le=65_535, description="Port of the metrics on 127.0.0.1; unset: none."
    )
    stale_after: PositiveDuration = Field(default="3h", description="Data older than this are called stale.")
    log: Literal["text", "json"] = Field(
        default="text", description="Form of the logs on stderr: text, or one JSON object a line."
    )

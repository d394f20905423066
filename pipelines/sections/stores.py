"""Where data come from and lie: lake, tracking store, sources."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.sections.base import Section
from pipelines.setting_types import Address, Distinct, Name, PositiveDuration, Url, VenueName


class LakeSection(Section):
    """Where the tables live: a folder, or an s3:// URL with object-store options (credentials by environment)."""

    path: str = Field(default="lake.data", description='Folder of the tables, or "s3://bucket/prefix".')
    options: dict[str, str] = Field(
        default_factory=dict, description="Options of an object store; credentials belong into AWS_* variables."
    )


class MlflowSection(Section):
    """Tracking store: a database (SQLite, PostgreSQL) with ``artifacts`` in a folder or bucket, or a server's address.

    A server decides for itself where artifacts lie. A password belongs into MLFLOW_TRACKING_URI or PGPASSFILE.
    """

    tracking_uri: str = Field(
        default="sqlite:///mlruns/mlflow.db",
        description='Database or server, like "postgresql://user@host/mlflow"; the variable MLFLOW_TRACKING_URI wins.',
    )
    artifacts: str = Field(
        default="mlruns/artifacts",
        description="Folder or bucket of pictures, pages and models; a server decides for itself.",
    )


class ExchangeSection(Section):
    """Bars from any exchange ccxt supports."""

    exchange: Name = Field(default="binance", description="Name of the exchange, as ccxt spells it.")
    symbols: dict[Name, Name] = Field(
        default_factory=dict, description='Market by asset, like { BTC = "BTC/USDT" }; empty: nothing is collected.'
    )
    step: PositiveDuration = Field(default="1h", description="Length of a bar; decisions read hourly ones.")
    url: Url | None = Field(default=None, description="Another base URL (a proxy, a test server); unset: ccxt's own.")


class BlocksSource(Section):
    """Gas history from the chain's own nodes, those of [chain] rpc_urls."""

    every: PositiveDuration = Field(default="1h", description="Time between two sampled blocks.")
    heads: bool = Field(
        default=False, description="Also every block's header, into table heads: 7,200 rows a day on Ethereum."
    )


class PoolRow(Section):
    """One pool to read: its address, venue and which asset it prices."""

    address: Address = Field(description="The pool's contract.")
    venue: VenueName = Field(default="uniswap_v3", description="Whose rules it follows.")
    asset: Name = Field(description="The asset that it prices.")
    router: Address | None = Field(
        default=None, description="The contract a swap is sent to; needed where the vault trades."
    )
    quote: Address | None = Field(
        default=None, description="The token its price is in; needed where its symbols leave that open."
    )


class FeedRow(Section):
    """One price feed."""

    address: Address = Field(description="The feed's contract.")
    asset: Name = Field(description="The asset that it prices, in USD.")
    heartbeat: PositiveDuration = Field(
        default="1h", description="Longest time between two answers of a healthy feed; an older answer is stale."
    )


class SampleSection(Section):
    """The seeded market simulator: it ends now and grows every hour, with the same past whenever it is asked.

    The first ingest takes the last ``hours`` of it. With ``start`` and ``hours`` it is a closed span of the past.
    """

    seed: int = Field(default=7, description="Seed of the simulated market, a plain number.")
    hours: int | None = Field(
        default=None, ge=24, description="Hours that the first ingest takes; unset: the last 18 months."
    )
    start: str | None = Field(
        default=None, description="First day (UTC) of a closed span; unset: 2024-01-01, of a market that goes on."
    )


class Sources(Section):
    """Sources that ``ingest`` collects; an absent one is not collected."""

    exchange: ExchangeSection | None = Field(default=None, description="Bars of an exchange.")
    blocks: BlocksSource | None = Field(default=None, description="Gas history from the nodes.")
    pools: Annotated[tuple[PoolRow, ...], Distinct] = Field(default=(), description="Pools to read and trade with.")
    feeds: Annotated[tuple[FeedRow, ...], Distinct] = Field(default=(), description="Price feeds to read.")
    signals: Annotated[tuple[Literal["fear_greed", "funding", "headlines"], ...], Distinct] = Field(
        default=(), description="Public signals to collect."
    )
    sample: SampleSection | None = Field(default=None, description="A simulated market, to try things out.")
    own: dict[Name, dict[str, Any]] = Field(
        default_factory=dict, description="Sources of installed packages by name, each with its options."
    )

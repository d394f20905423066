"""Settings: the only reader of ``foredrift.toml`` and of the environment.

Order of precedence: environment (``FOREDRIFT_<SECTION>__<KEY>``, e.g. ``FOREDRIFT_LAKE__PATH``), then the file, then
the defaults below. Secrets are never here: a key comes from an encrypted keystore file or an external signer, its
passphrase from where ``pipelines.servers.phrase`` finds it, notification addresses from FOREDRIFT_NOTIFY.
"""

from __future__ import annotations

import atexit
import os
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from lake.errors import ConfigError
from lake.private import STATE, tighten
from lake.units import utc
from lake.universe import STABLE
from pipelines.setting_sources import explained, from_environment, merged
from pipelines.setting_types import (
    Address,
    ChainId,
    Cron,
    Distinct,
    Duration,
    FallbackPolicy,
    LivePolicy,
    Name,
    PolicyName,
    PositiveDuration,
    SecretUrl,
    Url,
    Zone,
)

DEFAULT_FILE = "foredrift.toml"
_kept_private: set[Path] = set()
SAMPLE_CHANGES = (  # what `foredrift init --sample` changes in the starter file
    ('assets = ["BTC", "ETH", "LINK", "UNI", "AAVE"]', 'assets = ["USDC", "BTC", "ETH"]        # all USDC at first'),
    ("# [sources.sample] ", "[sources.sample]   "),
    ("# seed = 7\n", "seed = 7\n"),
    ("# hours = 13_140 ", "hours = 2_160    "),
    ('# ingest = "2 * * * *"  ', 'ingest = "*/2 * * * *"  '),
    ('# forecast = "4 * * * *"  ', 'forecast = "*/2 * * * *"  '),
    ('# rebalance = "6 * * * *"', 'rebalance = "*/2 * * * *"'),
)


class Section(BaseModel):
    """A frozen section; an unknown key is an error, so that a typing mistake never silently means a default.

    Numbers are finite: neither a NaN nor an infinity is an amount, a weight or a price.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PortfolioSection(Section):
    """What is held and how far it may stray."""

    name: Name = "main"
    numeraire: Literal["USD"] = "USD"  # what prices, NAV and costs are counted in; nothing else is supported
    assets: Annotated[tuple[Name, ...], Distinct] = ("BTC", "ETH", "LINK", "UNI", "AAVE")
    targets: tuple[float, ...] = ()  # empty: equal weights; must sum to 1
    tolerance: float | tuple[float, ...] = Field(default=0.05)  # cap on abs(weight - target), as a fraction
    nav_usd: float = Field(default=1_000_000.0, gt=0)
    gamma: float = Field(default=3.0, gt=0)  # tracking penalty is gamma/2 x'Sigma x per year
    scenario: Literal["soft", "hard"] = "soft"

    @model_validator(mode="after")
    def _consistent(self) -> PortfolioSection:
        n = len(self.assets)
        if n < 2:
            raise ValueError(f"portfolio.assets needs at least two different assets, got {list(self.assets)}")
        if self.targets and len(self.targets) != n:
            raise ValueError(f"portfolio.targets has {len(self.targets)} entries for {n} assets")
        if self.targets and (min(self.targets) <= 0 or abs(sum(self.targets) - 1) > 1e-6):
            raise ValueError(f"portfolio.targets must be positive and sum to 1, got {sum(self.targets):.6f}")
        caps = self.tolerance if isinstance(self.tolerance, tuple) else (self.tolerance,) * n
        if len(caps) != n or min(caps) <= 0 or max(caps) >= 1:
            raise ValueError("portfolio.tolerance is one fraction between 0 and 1, or one per asset (5 % is 0.05)")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Target weight by asset."""
        n = len(self.assets)
        given = self.targets or (1 / n,) * n
        return dict(zip(self.assets, given, strict=True))

    @property
    def caps(self) -> dict[str, float]:
        """Tolerance by asset."""
        n = len(self.assets)
        given = self.tolerance if isinstance(self.tolerance, tuple) else (self.tolerance,) * n
        return dict(zip(self.assets, given, strict=True))


class LakeSection(Section):
    """Where the tables live: a folder, or an s3:// URL with object-store options (credentials by environment)."""

    path: str = "lake.data"
    options: dict[str, str] = Field(default_factory=dict)


class MlflowSection(Section):
    """Tracking store: a database (SQLite, PostgreSQL) with ``artifacts`` in a folder or bucket, or a server's address.

    A server decides for itself where artifacts lie. A password belongs into MLFLOW_TRACKING_URI or PGPASSFILE.
    """

    tracking_uri: str = "sqlite:///mlruns/mlflow.db"
    artifacts: str = "mlruns/artifacts"


class ExchangeSection(Section):
    """Bars from any exchange ccxt supports. ``symbols`` maps asset to market."""

    exchange: Name = "binance"
    symbols: dict[Name, Name] = Field(default_factory=dict)
    step: PositiveDuration = "1h"
    url: Url | None = None  # another base URL (a proxy, or a test server)


class BlocksSource(Section):
    """Gas history from the chain's own nodes."""

    every: PositiveDuration = "1h"


class PoolRow(Section):
    """One pool to read: its address, venue and which asset it prices."""

    address: Address
    venue: Literal["uniswap_v2", "uniswap_v3"] = "uniswap_v3"
    asset: Name
    router: Address | None = None  # the contract a swap is sent to; needed where the vault trades
    quote: Address | None = None  # the token its price is in; needed where its symbols leave that open


class FeedRow(Section):
    """One price feed."""

    address: Address
    asset: Name
    heartbeat: PositiveDuration = "1h"


class SampleSection(Section):
    """The seeded market simulator: it ends now and grows every hour, with the same past whenever it is asked.

    The first ingest takes the last ``hours`` of it. With ``start`` and ``hours`` it is a closed span of the past.
    """

    seed: int = 7
    hours: int | None = Field(default=None, ge=24)  # none: the last 18 months
    start: str | None = None  # none: 2024-01-01, where the market that goes on begins


class Sources(Section):
    """Sources that ``ingest`` collects; an absent one is not collected."""

    exchange: ExchangeSection | None = None
    blocks: BlocksSource | None = None
    pools: Annotated[tuple[PoolRow, ...], Distinct] = ()
    feeds: Annotated[tuple[FeedRow, ...], Distinct] = ()
    signals: Annotated[tuple[Literal["fear_greed", "funding", "headlines"], ...], Distinct] = ()
    sample: SampleSection | None = None
    own: dict[Name, dict[str, Any]] = Field(default_factory=dict)  # sources of installed packages, with their options


class ChainSection(Section):
    """The settlement chain."""

    id: ChainId = 1
    rpc_urls: Annotated[tuple[SecretUrl, ...], Distinct] = ()  # may carry an API key, hence masked
    native: Name = "ETH"
    sequencer_feed: Address | None = None  # an L2's uptime feed; none is asked on L1
    history_id: ChainId | None = None  # chain whose recorded gas and pools stand for this one (a fork, a local chain)

    @property
    def history(self) -> int:
        """Chain id under which gas and pool history is found in the lake."""
        return self.history_id or self.id


class CostsSection(Section):
    """What a trade costs. ``fee_bps`` is pool fee plus half spread per traded value; gas units as measured."""

    fee_bps: float = Field(default=5.0, ge=0, le=1_000)
    gas_base: int = Field(default=130_000, ge=0)
    gas_per_leg: int = Field(default=145_000, ge=0)
    depth_1pct_usd: float | None = Field(default=None, gt=0)  # overrides the recorded pool depth


PREFECT = ".foredrift/prefect"  # the folder of the scheduler that is started here
SHARED_JOURNAL = ".foredrift/journal"


class VaultSection(Section):
    """The vault that is rebalanced. ``simulated`` keeps its state in a file; the others live on ``[chain]``."""

    kind: Literal["simulated", "reference", "safe"] = "simulated"
    address: Address | None = None
    keeper: Address | None = None  # the keeper's address
    multisend: Address | None = None  # safe: its chain's MultiSendCallOnly
    tokens: dict[Name, Address] = Field(
        default_factory=dict
    )  # safe: token address by asset; its feed is in sources.feeds
    state: str = ".foredrift/vault.json"
    start: Literal["cash", "targets"] | tuple[float, ...] | None = None  # of the simulated: see start_weights
    keystore: str | None = None  # encrypted keystore file; passphrase in FOREDRIFT_PASSPHRASE
    signer_url: SecretUrl | None = None  # or an external signer
    relay: Literal["auto", "public", "private", "bundle", "share"] = "auto"
    relay_url: SecretUrl | None = None
    relay_identity: str | None = None  # keystore of the key that signs relay requests; a key of its own, without funds
    refund_percent: int = Field(default=90, ge=0, le=100)  # share: of what a back-run bids; more leaves fewer back-runs
    refund_to: Address | None = None  # share: who gets it; the keeper where not given
    journal: str = SHARED_JOURNAL  # not given: with chain id and address in its name, one for each vault on a chain
    audit: str = ".foredrift/audit.jsonl"


class ModelsSection(Section):
    """How forecasters are trained."""

    refit_every: PositiveDuration = "14d"
    train_window: PositiveDuration | None = None  # none: all history
    embargo: Duration = "1h"
    expiry: PositiveDuration = "45d"  # an older model abstains
    trade_sizes_usd: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Distinct] = (10_000, 100_000, 1_000_000)
    seed: int = 7
    threads: int = Field(default=0, ge=0)  # 0: one per core
    rounds: int = Field(default=120, ge=1)  # of boosting; fewer train faster and forecast worse
    tune: bool = False  # search booster parameters of every family inside each fold, on its own past
    tune_seconds: int = Field(default=60, ge=1)  # per target of a fold; the search then ends with what it has


class PolicySection(Section):
    """Which policy decides, and which one takes over when its forecasts abstain."""

    kind: LivePolicy = "predictive"
    fallback: FallbackPolicy = "gas_band"


class MandateSection(Section):
    """Limits every plan must keep, whatever the policy says."""

    max_turnover_bps: int = Field(default=2_500, gt=0, le=10_000)
    max_slippage_bps: int = Field(default=100, gt=0, le=10_000)
    loss_budget_bps: int = Field(default=10, gt=0, le=10_000)  # of NAV in any day; a band policy spends 30 to 60 a year
    max_oracle_deviation_bps: int = Field(default=500, gt=0, le=10_000)  # oracle against the lake's newest price
    max_average_deviation_bps: int = Field(default=500, gt=0, le=10_000)  # oracle against each traded pool's average
    average_window: PositiveDuration = "30m"  # longer: harder to manipulate, lags the market more
    min_trade_usd: float = Field(default=100.0, ge=0)
    allow: Annotated[
        tuple[Address, ...], Distinct
    ] = ()  # contracts a plan may call; empty: those of the configured pools


class CompareSection(Section):
    """The panel that policies are compared on."""

    portfolios: int = Field(default=32, ge=1)  # baskets; each appears in every cell of mandate, NAV and chain
    policies: Annotated[tuple[PolicyName, ...], Distinct] = ()  # empty: all of them
    assets: Annotated[tuple[Name, ...], Distinct] = ()  # empty: those of the portfolio
    nav_usd: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Distinct] = (100_000.0, 1_000_000.0, 10_000_000.0)
    scenarios: Annotated[tuple[Literal["soft", "hard"], ...], Distinct] = ("soft", "hard")
    seed: int = 7
    bootstrap: int = Field(default=1_000, ge=100)


class ScheduleSection(Section):
    """When the deployments run (cron in ``timezone``), and whether the scheduled rebalance executes its plans.

    ``live`` unset: on paper only. It is a setting of the project, never a parameter of a run.
    """

    live: bool | None = None
    timezone: Zone = "UTC"
    ingest: Cron = "2 * * * *"
    forecast: Cron = "4 * * * *"
    rebalance: Cron = "6 * * * *"
    retrain: Cron = "30 3 * * 1"
    compare: Cron = "0 5 1 * *"
    max_late: PositiveDuration = "15m"  # a rebalance run that starts later than this declines
    work_pool: Name = "foredrift"


class WatchSection(Section):
    """Logs, metrics and notifications. Apprise URLs come from FOREDRIFT_NOTIFY (space separated)."""

    prometheus_port: int | None = Field(default=None, ge=1, le=65_535)
    stale_after: PositiveDuration = "3h"
    log: Literal["text", "json"] = "text"


class Settings(Section):
    """All settings of one project. ``root`` is the folder of its file; relative paths are taken from there."""

    portfolio: PortfolioSection = PortfolioSection()
    lake: LakeSection = LakeSection()
    mlflow: MlflowSection = MlflowSection()
    sources: Sources = Sources()
    chain: ChainSection = ChainSection()
    costs: CostsSection = CostsSection()
    vault: VaultSection = VaultSection()
    models: ModelsSection = ModelsSection()
    policy: PolicySection = PolicySection()
    mandate: MandateSection = MandateSection()
    compare: CompareSection = CompareSection()
    schedule: ScheduleSection = ScheduleSection()
    watch: WatchSection = WatchSection()
    root: Path = Path()
    _file: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _own_journal(self) -> Settings:
        """Name the journal after the vault: plans of another one in it would be refused."""
        given = self.vault
        if given.kind != "simulated" and given.address and "journal" not in given.model_fields_set:
            name = f"{SHARED_JOURNAL}-{self.chain.id}-{given.address.lower()}"
            object.__setattr__(self, "vault", given.model_copy(update={"journal": name}))
        return self

    def path(self, relative: str) -> Path:
        """Return a project path, absolute."""
        return (self.root / relative).resolve()

    @property
    def file(self) -> Path:
        """The file that these settings were read from, absolute."""
        return self._file or self.path(DEFAULT_FILE)

    @property
    def live_on_schedule(self) -> bool:
        """Whether scheduled runs execute what they decide: as set, else on paper only."""
        given = self.schedule.live
        return self.vault.kind == "simulated" if given is None else given

    @classmethod
    def of(cls, values: dict[str, Any], file: Path) -> Settings:
        """Return the settings ``values`` of ``file``, whose folder is the project's."""
        made = cls(**values, root=file.parent)
        made._file = file
        fault = _start_fault(made)
        if fault:
            raise ConfigError(f"vault.start in {file.name}: {fault}")
        return made

    @property
    def start_weights(self) -> dict[str, float]:
        """What the paper vault begins with, as weights by asset: as set, else all cash where a dollar coin is held.

        ``targets`` (and a portfolio without a dollar coin) begins on target, so its first decision is to wait.
        """
        assets, given = self.portfolio.assets, self.vault.start
        cash = next((a for a in assets if a in STABLE), None)
        if isinstance(given, tuple):
            return dict(zip(assets, given, strict=True))
        if given == "targets" or cash is None:
            return self.portfolio.weights
        return {a: float(a == cash) for a in assets}


def _start_fault(settings: Settings) -> str:
    """Return why the paper vault cannot begin as set, empty where it can."""
    assets, given = settings.portfolio.assets, settings.vault.start
    if isinstance(given, tuple):
        if len(given) != len(assets) or min(given) < 0 or abs(sum(given) - 1) > 1e-6:
            return (
                f"one weight each of {', '.join(assets)} is wanted, none negative, that sum to 1; given: {list(given)}"
            )
    elif given == "cash" and not STABLE & set(assets):
        coins = ", ".join(sorted(STABLE))
        return f'"cash" needs a dollar coin ({coins}) among portfolio.assets, which are {", ".join(assets)}'
    return ""


def load(file: Path | None = None, *, required: bool = True) -> Settings:
    """Read and validate the settings.

    ``file`` defaults to ``foredrift.toml`` in the working folder. Raises ConfigError naming every wrong key, or the
    variable it came from, and, when ``required``, a missing file.
    """
    path = file or Path(DEFAULT_FILE)
    if not path.exists():
        if required or file is not None:
            raise ConfigError(f"there is no {path}; write one with `foredrift init` or name another with --config")
        return _validated({}, "the defaults", Path.cwd() / DEFAULT_FILE)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    settings = _validated(values, str(path), path.resolve())
    _keep_private(settings.path(STATE))
    return settings


def served_file() -> Path | None:
    """Return the settings file of scheduled runs, fixed where they are served: nothing in a request can name another.

    FOREDRIFT_CONFIG names it (`foredrift serve` sets it), else it is foredrift.toml in FOREDRIFT_HOME (a work pool's
    worker has that), else None: the working folder's.
    """
    file, home = os.environ.get("FOREDRIFT_CONFIG"), os.environ.get("FOREDRIFT_HOME")
    if file:
        return Path(file)
    return Path(home) / DEFAULT_FILE if home else None


def _keep_private(folder: Path) -> None:
    """Close ``folder`` to others now and when the process ends, whatever other programs have written there."""
    tighten(folder)
    if folder not in _kept_private:
        _kept_private.add(folder)
        atexit.register(tighten, folder)


def _validated(values: dict[str, Any], file: str, path: Path) -> Settings:
    if "root" in values:
        raise ConfigError(f"{file}: root is the folder of this file and cannot be set; remove it")
    given = from_environment(Settings, os.environ)
    try:
        return Settings.of(merged(values, given), path)
    except ValidationError as error:
        raise ConfigError(explained(Settings, error, file, given)) from None


def lake_options(settings: Settings) -> dict[str, str]:
    """Return object-store options: those of the file plus AWS_* of the environment, for an s3:// lake only."""
    if not settings.lake.path.startswith("s3://"):
        return {}
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL")
    return (
        {"AWS_CONDITIONAL_PUT": "etag"} | {n: os.environ[n] for n in names if n in os.environ} | settings.lake.options
    )


def starter(*, sample: bool = False) -> str:
    """Return the commented starter file that ``foredrift init`` writes; ``sample``: one to run as it is."""
    text = (Path(__file__).parent / "starter.toml").read_text(encoding="utf-8")
    for default, changed in SAMPLE_CHANGES if sample else ():
        assert default in text, default
        text = text.replace(default, changed, 1)
    return text


def replay() -> tuple[datetime, datetime, float] | None:
    """Return the replayed clock of FOREDRIFT_REPLAY, ``SIMULATED_START,REAL_START,SPEED``; None when it is not set.

    Paper portfolios only: it lets schedules live through recorded hours at SPEED times the pace of the wall clock.
    Raises ConfigError on any other form.
    """
    text = os.environ.get("FOREDRIFT_REPLAY")
    if not text:
        return None
    parts = text.split(",")
    try:
        return utc(parts[0]), utc(parts[1]), float(parts[2])
    except (IndexError, ValueError) as error:
        raise ConfigError("FOREDRIFT_REPLAY is SIMULATED_START,REAL_START,SPEED") from error


def notify_urls() -> list[str]:
    """Return the Apprise URLs of FOREDRIFT_NOTIFY."""
    return os.environ.get("FOREDRIFT_NOTIFY", "").split()

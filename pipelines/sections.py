"""The sections of the settings file, each checked when it is loaded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lake.universe import STABLE
from pipelines.auctions_section import AuctionsSection
from pipelines.setting_types import (
    Address,
    ChainId,
    Cron,
    DayAtMost,
    Distinct,
    Duration,
    FallbackPolicy,
    FolderName,
    LivePolicy,
    Name,
    PolicyName,
    PositiveDuration,
    SecretUrl,
    Url,
    VenueName,
    Zone,
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
    """Gas history from the chain's own nodes; with ``heads`` also every block's header, into table ``heads``."""

    every: PositiveDuration = "1h"
    heads: bool = False


class PoolRow(Section):
    """One pool to read: its address, venue and which asset it prices."""

    address: Address
    venue: VenueName = "uniswap_v3"
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


SHARED_JOURNAL = ".foredrift/journal"


class VaultSection(Section):
    """The vault that is rebalanced. ``simulated`` keeps its state in a file; the others live on ``[chain]``."""

    kind: Literal["simulated", "reference", "safe", "enzyme"] = "simulated"
    address: Address | None = None  # enzyme: the fund's vault proxy, which holds its assets
    swapper: Address | None = None  # enzyme: the release's UniswapV3Adapter
    keeper: Address | None = None  # the keeper's address
    multisend: Address | None = None  # safe: its chain's MultiSendCallOnly
    access: Literal["roles", "proposal", "owner-key-can-take-all"] = "roles"  # safe: who signs; see docs/vaults.md
    roles: Address | None = None  # safe, by roles: its Zodiac Roles v2 modifier
    unwrapper: Address | None = None  # safe, by roles: MultiSendUnwrapper, where it is not at its usual address
    allowance_bps: int = Field(default=1_000, gt=0, le=10_000)  # safe, by roles: of NAV, sold of each token a day
    proposal_life: PositiveDuration = "24h"  # safe, by proposal: how long its owners have to sign
    safe_service: SecretUrl | None = None  # safe, by proposal: its transaction service (FOREDRIFT_SAFE_API_KEY)
    tokens: dict[Name, Address] = Field(default_factory=dict)  # safe, enzyme: token by asset; feeds: sources.feeds
    state: str = ".foredrift/vault.json"
    start: Literal["cash", "targets"] | tuple[float, ...] | None = None  # of the simulated: see start_weights
    keystore: str | None = None  # encrypted keystore file; passphrase in FOREDRIFT_PASSPHRASE
    signer_url: SecretUrl | None = None  # or an external signer
    relay: Literal["auto", "public", "private", "bundle", "share"] = "auto"
    relay_url: SecretUrl | None = None
    relay_identity: str | None = None  # keystore of the key that signs relay requests; a key of its own, without funds
    refund_percent: int = Field(default=90, ge=0, le=100)  # share: of what a back-run bids; more leaves fewer back-runs
    refund_to: Address | None = None  # share: who gets it; the keeper where not given
    auctions: AuctionsSection | None = None
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
    close_when_denied: DayAtMost = "6h"  # deposits and exits, where fills deny NAV; 0s leaves that to people
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


class KeepSection(Section):
    """How ``foredrift keep`` follows the chain: ``ws`` announces blocks, ``http`` nodes are asked for the truth.

    Two nodes of different operators, where money is kept. Without ``http`` those of [chain] rpc_urls are asked.
    """

    ws: SecretUrl | None = None  # without one the nodes are polled every half block time
    http: Annotated[tuple[SecretUrl, ...], Distinct] = ()
    workers: int = Field(default=4, ge=1, le=64)  # decision cycles of different vaults at once


class WatchSection(Section):
    """Logs, metrics and notifications. Apprise URLs come from FOREDRIFT_NOTIFY (space separated)."""

    prometheus_port: int | None = Field(default=None, ge=1, le=65_535)
    stale_after: PositiveDuration = "3h"
    log: Literal["text", "json"] = "text"


class DeploymentSection(Section):
    """One more vault of the project, with its own files; what a section leaves out is as the project's own says.

    What names a vault, its keys, its pools and its files is never shared, and what belongs to a chain is not where this
    one has a chain of its own.
    """

    name: FolderName
    portfolio: PortfolioSection
    chain: ChainSection
    vault: VaultSection
    policy: PolicySection
    mandate: MandateSection
    pools: Annotated[tuple[PoolRow, ...], Distinct] | None = None  # none: those of [[sources.pools]], on its chain
    feeds: Annotated[tuple[FeedRow, ...], Distinct] | None = None  # none: those of [[sources.feeds]], on its chain
    live: bool | None = None  # whether scheduled runs execute; unset: on paper only, whatever [schedule] says
    rebalance: Cron | None = None  # unset: as in [schedule]

    @model_validator(mode="before")
    @classmethod
    def _own_files(cls, values: Any) -> Any:
        """Keep journal, audit record and paper vault in a folder of the deployment's name, where not given."""
        if not isinstance(values, dict) or not isinstance(values.get("name"), str):
            return values
        name, vault, portfolio = values["name"], values.get("vault", {}), values.get("portfolio", {})
        if not isinstance(vault, dict) or not isinstance(portfolio, dict):
            return values
        if portfolio.get("name", name) != name:
            raise ValueError(
                f"the deployment {name} cannot call its portfolio {portfolio['name']}; leave that name out"
            )
        files = {"state": "vault.json", "journal": "journal", "audit": "audit.jsonl"}
        own = {key: f".foredrift/{name}/{file}" for key, file in files.items()}
        return values | {"vault": own | vault, "portfolio": portfolio | {"name": name}}


OWN = frozenset(
    {"address", "roles", "keeper", "keystore", "signer_url", "tokens", "state", "start", "journal", "audit"}
)
"""Keys of [vault] that another deployment never takes over: they name the vault, its keys and its files."""
OF_A_CHAIN = frozenset(
    {"swapper", "multisend", "unwrapper", "safe_service", "relay", "relay_url", "relay_identity", "refund_to"}
)
OF_THE_ASSETS = frozenset({"targets", "tolerance"})


def with_fallbacks(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings' plain ``values`` with each of ``deployments`` completed from the sections at the top."""
    rows = values.get("deployments")
    if not isinstance(rows, list | tuple) or not all(isinstance(r, dict) for r in rows):
        return values
    return values | {"deployments": [_completed(row, values) for row in rows]}


def _completed(row: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Return a row with what it leaves out; what is no table is left for the checks of the sections to name."""
    chain, home = (_table(values, "chain").get("id") for values in (row, top))
    elsewhere = chain is not None and str(chain) != str(home or ChainSection().id)
    dropped = {
        "portfolio": {"name"} | (OF_THE_ASSETS if "assets" in _table(row, "portfolio") else set()),
        "vault": OWN | (OF_A_CHAIN if elsewhere else set()),
        "chain": frozenset(ChainSection.model_fields) if elsewhere else frozenset(),
    }
    done = dict(row)
    for name in ("portfolio", "chain", "vault", "policy", "mandate"):
        if isinstance(row.get(name, {}), dict):
            out = dropped.get(name, frozenset())
            done[name] = {k: v for k, v in _table(top, name).items() if k not in out} | row.get(name, {})
    for name in ("pools", "feeds"):
        done.setdefault(name, () if elsewhere else _table(top, "sources").get(name, ()))
    return done


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def start_weights(portfolio: PortfolioSection, vault: VaultSection) -> dict[str, float]:
    """Return what a paper vault begins with, as weights by asset: as set, else all cash where a dollar coin is held.

    ``targets`` (and a portfolio without a dollar coin) begins on target, so its first decision is to wait.
    """
    assets, given = portfolio.assets, vault.start
    cash = next((a for a in assets if a in STABLE), None)
    if isinstance(given, tuple):
        return dict(zip(assets, given, strict=True))
    if given == "targets" or cash is None:
        return portfolio.weights
    return {a: float(a == cash) for a in assets}


def start_fault(portfolio: PortfolioSection, vault: VaultSection) -> str:
    """Return why a paper vault cannot begin as set, empty where it can."""
    assets, given = portfolio.assets, vault.start
    if isinstance(given, tuple):
        if len(given) != len(assets) or min(given) < 0 or abs(sum(given) - 1) > 1e-6:
            return (
                f"one weight each of {', '.join(assets)} is wanted, none negative, that sum to 1; given: {list(given)}"
            )
    elif given == "cash" and not STABLE & set(assets):
        coins = ", ".join(sorted(STABLE))
        return f'"cash" needs a dollar coin ({coins}) among portfolio.assets, which are {", ".join(assets)}'
    return ""

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
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from lake.errors import ConfigError
from lake.private import STATE, tighten
from lake.units import utc
from pipelines import layout
from pipelines.collisions import collision
from pipelines.deploy_section import DeploySection
from pipelines.hedge_section import HedgeSection, PositionsSection, as_vault
from pipelines.secret_files import secret
from pipelines.sections import (
    SHARED_JOURNAL,
    BridgeSection,
    ChainSection,
    ChatSection,
    CompareSection,
    CostsSection,
    DeploymentSection,
    FleetChain,
    KeepSection,
    LakeSection,
    MandateSection,
    MlflowSection,
    ModelsSection,
    PageSection,
    PolicySection,
    PortfolioSection,
    ScheduleSection,
    Section,
    Sources,
    StopSection,
    TransfersSection,
    VaultSection,
    WatchSection,
    chains_fault,
    start_fault,
    start_weights,
    with_chains,
    with_fallbacks,
)
from pipelines.setting_sources import explained, from_environment, merged

PREFECT = ".foredrift/prefect"  # the folder of the scheduler that is started here
DEFAULT_FILE = "foredrift.toml"
MOST_SPEED = 1_000_000  # of a replayed clock: a century in an hour
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


class Settings(Section):
    """All settings of one project. ``root`` is the folder of its file; relative paths are taken from there."""

    portfolio: PortfolioSection = Field(default=PortfolioSection(), description="What is held, how far it may stray.")
    lake: LakeSection = Field(default=LakeSection(), description="Where the tables live.")
    mlflow: MlflowSection = Field(default=MlflowSection(), description="The tracking store.")
    sources: Sources = Field(default=Sources(), description="What `foredrift ingest` collects.")
    chain: ChainSection = Field(default=ChainSection(), description="The settlement chain.")
    costs: CostsSection = Field(default=CostsSection(), description="What a trade costs.")
    vault: VaultSection = Field(default=VaultSection(), description="The vault that is rebalanced.")
    models: ModelsSection = Field(default=ModelsSection(), description="How forecasters are trained.")
    policy: PolicySection = Field(default=PolicySection(), description="Which policy decides.")
    mandate: MandateSection = Field(default=MandateSection(), description="Limits that every plan must keep.")
    compare: CompareSection = Field(default=CompareSection(), description="The panel that policies are compared on.")
    schedule: ScheduleSection = Field(default=ScheduleSection(), description="When the deployments run.")
    watch: WatchSection = Field(default=WatchSection(), description="Logs, metrics and notifications.")
    keep: KeepSection = Field(default=KeepSection(), description="How `foredrift keep` follows the chain.")
    deploy: DeploySection = Field(default=DeploySection(), description="How the reference vault is created.")
    hedge: HedgeSection = Field(default=HedgeSection(), description="A hedge account beside the vaults.")
    page: PageSection = Field(default=PageSection(), description="The portfolio page of `foredrift serve`.")
    chat: ChatSection = Field(default=ChatSection(), description="Questions and answers over Telegram.")
    stop: StopSection = Field(default=StopSection(), description="What `foredrift stop` does on the chain.")
    positions: tuple[PositionsSection, ...] = Field(
        default=(), description="Portfolios whose books are read from [chain]."
    )
    deployments: tuple[DeploymentSection, ...] = Field(
        default=(), description="Further vaults, beside that of [vault]."
    )
    chains: tuple[FleetChain, ...] = Field(
        default=(), description="One portfolio on several chains, instead of [chain] and [vault]."
    )
    bridges: tuple[BridgeSection, ...] = Field(default=(), description="Routes of cash between the chains.")
    transfers: TransfersSection = Field(default=TransfersSection(), description="Limits of transfers of cash.")
    root: Path = Field(default=Path(), description="Folder of the settings file; it cannot be set.")
    _file: Path | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _fallbacks(cls, values: Any) -> Any:
        """Complete every deployment from the sections at the top."""
        return with_fallbacks(with_chains(values)) if isinstance(values, dict) else values

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
        rows = [("vault.start", made.portfolio, made.vault)]
        rows += [(f"deployments.{i}.vault.start", d.portfolio, d.vault) for i, d in enumerate(made.deployments)]
        for key, portfolio, vault in rows:
            fault = start_fault(portfolio, vault)
            if fault:
                raise ConfigError(f"{key} in {file.name}: {fault}")
        paper = all(d.vault.kind == "simulated" for d in made.deployments)
        wrong = chains_fault(made.chains, made.bridges, made.portfolio.assets, paper=paper)
        if wrong:
            raise ConfigError(f"{file.name}: {wrong}")
        members = [(made.portfolio.name, made.chain, made.vault)]
        members += [(d.name, d.chain, d.vault) for d in made.deployments]
        if made.hedge.account is not None:
            members.append(("hedge", made.chain, as_vault(made.hedge)))
        shared = collision(members, made.root) if len(members) > 1 else ""
        if shared:
            raise ConfigError(f"{file.name}: {shared}")
        return made

    @property
    def start_weights(self) -> dict[str, float]:
        """What the paper vault begins with, as weights by asset: as set, else all cash where a dollar coin is held.

        ``targets`` (and a portfolio without a dollar coin) begins on target, so its first decision is to wait.
        """
        return start_weights(self.portfolio, self.vault)


def load(file: Path | None = None, *, required: bool = True, any_layout: bool = False) -> Settings:
    """Read and validate the settings.

    ``file`` defaults to ``foredrift.toml`` in the working folder. Raises ConfigError naming every wrong key, or the
    variable it came from, and, when ``required``, a missing file; but for ``any_layout`` also files as an older version
    left them.
    """
    path = file or Path(DEFAULT_FILE)
    if not path.exists():
        if required or file is not None:
            raise ConfigError(f"there is no {path}; write one with `foredrift init` or name another with --config")
        return _validated({}, "the defaults", Path.cwd() / DEFAULT_FILE)
    settings = _validated(as_written(path), str(path), path.resolve())
    _keep_private(settings.path(STATE))
    older = "" if any_layout else layout.fault(settings.root, settings.vault.journal)
    if older:
        raise ConfigError(older)
    return settings


def as_written(path: Path) -> dict[str, Any]:
    """Return what the settings file ``path`` gives, unchecked. Raises ConfigError where it is no TOML or unreadable."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, a number of thousands of digits, deep brackets
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


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


def lake_options(given: LakeSection) -> dict[str, str]:
    """Return object-store options: those of the file plus AWS_* of the environment, for an s3:// lake only."""
    if not given.path.startswith("s3://"):
        return {}
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL")
    return {"AWS_CONDITIONAL_PUT": "etag"} | {n: os.environ[n] for n in names if n in os.environ} | given.options


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
        start, real, speed = utc(parts[0]), utc(parts[1]), float(parts[2])
    except (IndexError, ValueError) as error:
        raise ConfigError("FOREDRIFT_REPLAY is SIMULATED_START,REAL_START,SPEED") from error
    if not 0 <= speed <= MOST_SPEED:
        raise ConfigError(f"FOREDRIFT_REPLAY: the speed lies between 0 and {MOST_SPEED:,} (given: {parts[2]})")
    return start, real, speed


def safe_api_key() -> str | None:
    """Return the key of the Safe transaction service from FOREDRIFT_SAFE_API_KEY(_FILE), None without one."""
    return secret("FOREDRIFT_SAFE_API_KEY")


def notify_urls() -> list[str]:
    """Return the Apprise URLs of FOREDRIFT_NOTIFY(_FILE)."""
    return (secret("FOREDRIFT_NOTIFY") or "").split()

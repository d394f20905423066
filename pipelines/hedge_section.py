"""``[hedge]``: a hedge account beside the vaults, and as what it must not be shared with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lake.units import duration
from pipelines.sections import Section, VaultSection
from pipelines.setting_types import Address, Name, PositiveDuration, SecretUrl


class HedgeSection(Section):
    """A hedge account on ``[chain]``, decided by a rule of ``compare --hedge``; its key is its own."""

    account: Address | None = None
    keeper: Address | None = None
    keystore: str | None = None  # encrypted keystore file; not that of [vault]
    signer_url: SecretUrl | None = None
    every: PositiveDuration = "5m"  # between decisions; shorter tracks closer, at most an hour
    gamma: float | None = Field(default=None, gt=0)  # risk aversion; 10 where no delta_limit is given
    delta_limit: float | None = Field(default=None, gt=0, le=10)  # or a hard limit on the net delta, of NAV
    roll: PositiveDuration = "1d"  # before expiry an option is rolled
    nav_usd: float | None = Field(default=None, gt=0)  # what exposures are fractions of; unset: the account's NAV
    vol: float | None = Field(default=None, gt=0, le=5)  # a year, where the book has no option to tell it
    portfolio: Name | None = None  # of table positions: the book behind a posted delta
    journal: str = ".foredrift/hedge-journal.jsonl"
    audit: str = ".foredrift/hedge-audit.jsonl"

    @model_validator(mode="after")
    def _one_mandate(self) -> HedgeSection:
        if self.gamma is not None and self.delta_limit is not None:
            raise ValueError("hedge has gamma (a soft mandate) and delta_limit (a hard one); give one")
        if not 60 <= int(duration(self.every).total_seconds()) <= 3_600 and self.every != "12s":
            raise ValueError(f"hedge.every is {self.every}: from 1m to 1h, or 12s for every block")
        return self


def as_vault(hedge: HedgeSection) -> VaultSection:
    """Return a hedge account as a vault on a chain: what may not be shared, and by whom its plans are signed."""
    same = {k: getattr(hedge, k) for k in ("keeper", "keystore", "signer_url", "journal", "audit")}
    return VaultSection(kind="reference", address=hedge.account, relay="public", **same)


class PositionsSection(Section):
    """Where ``foredrift ingest`` finds what a portfolio holds on ``[chain]``; addresses by asset."""

    portfolio: Name
    holder: Address
    tokens: dict[Name, Address] = Field(default_factory=dict)  # balances; a dollar coin's are cash
    yields: dict[Name, Address] = Field(default_factory=dict)  # yield tokens with stEthPerToken(), by underlying
    v3_manager: Address | None = None
    v3_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()  # Uniswap v3 positions
    perps: dict[Name, Address] = Field(default_factory=dict)
    options: dict[Name, Address] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _manager(self) -> PositionsSection:
        if self.v3_ids and self.v3_manager is None:
            raise ValueError("positions has v3_ids; set v3_manager to the contract that numbers them")
        return self

"""``[hedge]``: a hedge account beside the vaults, and as what it must not be shared with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lake.units import duration
from pipelines.sections import Section, VaultSection
from pipelines.setting_types import Address, Name, PositiveDuration, SecretUrl


class HedgeSection(Section):
    """A hedge account on ``[chain]``, decided by a rule of ``compare --hedge``; its key is its own."""

    account: Address | None = Field(default=None, description="The hedge account's contract; unset: none is kept.")
    keeper: Address | None = Field(default=None, description="Address of its keeper, whose key signs.")
    keystore: str | None = Field(default=None, description="Encrypted keystore file; not that of [vault].")
    signer_url: SecretUrl | None = Field(default=None, description="An external signer, instead of a keystore.")
    every: PositiveDuration = Field(
        default="5m", description="Time between decisions, 1m to 1h, or 12s for every block; shorter tracks closer."
    )
    gamma: float | None = Field(
        default=None, gt=0, description="Risk aversion, a plain number; unset: 10 where no delta_limit is given."
    )
    delta_limit: float | None = Field(
        default=None, gt=0, le=10, description="Or a hard limit on the net delta, as a fraction of NAV."
    )
    roll: PositiveDuration = Field(default="1d", description="How long before expiry an option is rolled.")
    nav_usd: float | None = Field(
        default=None, gt=0, description="What exposures are fractions of, USD; unset: the account's NAV."
    )
    vol: float | None = Field(
        default=None,
        gt=0,
        le=5,
        description="Volatility a year as a fraction, where the book has no option to tell it.",
    )
    portfolio: Name | None = Field(
        default=None,
        description="Portfolio of table positions: the book behind a posted delta, or what the lines must be held by.",
    )
    journal: str = Field(default=".foredrift/hedge-journal.jsonl", description="File of its plans in flight.")
    audit: str = Field(default=".foredrift/hedge-audit.jsonl", description="File of the record of its decisions.")

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

    portfolio: Name = Field(description="Name of the portfolio in table positions.")
    holder: Address = Field(description="Whose holdings are read.")
    tokens: dict[Name, Address] = Field(
        default_factory=dict, description="Tokens by asset; balances of a dollar coin are cash."
    )
    yields: dict[Name, Address] = Field(
        default_factory=dict, description="Yield tokens with stEthPerToken(), by underlying."
    )
    v3_manager: Address | None = Field(default=None, description="The contract that numbers Uniswap v3 positions.")
    v3_ids: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), description="Numbers of Uniswap v3 positions.")
    perps: dict[Name, Address] = Field(default_factory=dict, description="Perpetual markets by asset.")
    options: dict[Name, Address] = Field(default_factory=dict, description="Option markets by asset.")

    @model_validator(mode="after")
    def _manager(self) -> PositionsSection:
        if self.v3_ids and self.v3_manager is None:
            raise ValueError("positions has v3_ids; set v3_manager to the contract that numbers them")
        return self

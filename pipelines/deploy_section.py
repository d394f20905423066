"""``[deploy]``: what the reference vault of ``[vault]`` is created with, and whose keys change it."""

from __future__ import annotations

from pydantic import Field, model_validator

from lake.units import duration
from pipelines.sections import Section
from pipelines.setting_types import Name, PositiveDuration

SHORTEST_S, LONGEST_S = 3_600, 30 * 86_400


class DeploySection(Section):
    """Owner and guardian of the reference vault, its timelock, and the second source of its prices."""

    owner: str | None = Field(
        default=None, description="Encrypted keystore of the owner: it creates the vault and changes it."
    )
    guardian: str | None = Field(
        default=None, description="Encrypted keystore of the guardian, who can only pause; not the owner's."
    )
    delay: PositiveDuration = Field(
        default="24h",
        description="How long an owner's change is announced first, 1h to 30d; longer lets holders leave.",
    )
    name: Name = Field(default="Foredrift portfolio", description="Name of the share token, up to 64 characters.")
    symbol: Name = Field(default="fdp", description="Symbol of the share token, up to 32 characters.")
    average: PositiveDuration = Field(
        default="10m", description="Window of the pool's average that each feed is held against; longer lags more."
    )
    deviation_bps: int = Field(
        default=100, gt=0, le=1_000,
        description="Most a feed and that average may differ, basis points; less stops plans more often.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _bounded(self) -> DeploySection:
        seconds = int(duration(self.delay).total_seconds())
        if not SHORTEST_S <= seconds <= LONGEST_S:
            raise ValueError(f"deploy.delay is 1h to 30d, got {self.delay}")
        if self.owner is not None and self.owner == self.guardian:
            raise ValueError("deploy.owner and deploy.guardian are keys of two people: name two keystores")
        if len(self.name) > 64 or len(self.symbol) > 32:
            raise ValueError("deploy.name has at most 64 characters, deploy.symbol 32")
        return self

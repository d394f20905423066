"""What is held, under which limits, by which policy, and what trading it costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.sections.base import Section
from pipelines.setting_types import Address, DayAtMost, Distinct, FallbackPolicy, LivePolicy, Name, PositiveDuration


class PortfolioSection(Section):
    """What is held and how far it may stray."""

    name: Name = Field(default="main", description="Name of the portfolio, in reports and in the lake.")
    numeraire: Literal["USD"] = Field(
        default="USD", description="What prices, NAV and costs are counted in; nothing else is supported."
    )
    assets: Annotated[tuple[Name, ...], Distinct] = Field(
        default=("BTC", "ETH", "LINK", "UNI", "AAVE"), description="Symbols of what is held, two at least."
    )
    targets: tuple[float, ...] = Field(
        default=(), description="Target weights as fractions, one an asset, positive, summing to 1; empty: equal ones."
    )
    tolerance: float | tuple[float, ...] = Field(
        default=0.05,
        description="Cap on abs(weight - target) as a fraction (0.05 is 5 %), one for all or one an asset; "
        "tighter trades more often.",
    )
    nav_usd: float = Field(default=1_000_000.0, gt=0, description="Size of the paper portfolio, USD.")
    gamma: float = Field(
        default=3.0,
        gt=0,
        description="Risk aversion, a plain number: tracking costs gamma/2 x'Sigma x a year; higher holds closer.",
    )
    scenario: Literal["soft", "hard"] = Field(
        default="soft", description="soft: least cost plus tracking penalty. hard: never leave the tolerance."
    )

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


class CostsSection(Section):
    """What a trade costs, as measured on the reference vault."""

    fee_bps: float = Field(
        default=5.0, ge=0, le=1_000, description="Pool fee plus half spread, basis points of the traded value."
    )
    gas_base: int = Field(default=130_000, ge=0, description="Gas units of a rebalance whatever its legs.")
    gas_per_leg: int = Field(default=145_000, ge=0, description="Gas units of each leg of a rebalance.")
    depth_1pct_usd: float | None = Field(
        default=None, gt=0, description="USD that move a price by 1 %, for every asset; unset: the recorded pool depth."
    )


class PolicySection(Section):
    """Which policy decides, and which one takes over when its forecasts abstain."""

    kind: LivePolicy = Field(default="predictive", description="The policy that decides.")
    fallback: FallbackPolicy = Field(
        default="gas_band", description="The policy that decides while forecasts abstain; it reads none."
    )
    net_requests: Literal["soft", "all", "none"] = Field(
        default="soft",
        description="lagoon: mandates in which a trade waits for holders' money that will do it. soft: where gas is "
        "at least 0.5 bp of NAV; all: always, hard ones too, whose weights are outside their caps meanwhile.",
    )


class MandateSection(Section):
    """Limits every plan must keep, whatever the policy says."""

    max_turnover_bps: int = Field(
        default=2_500, gt=0, le=10_000, description="Most that one plan trades, basis points of NAV."
    )
    max_slippage_bps: int = Field(
        default=100, gt=0, le=10_000, description="Most that a leg may lose to its quote, basis points of the leg."
    )
    loss_budget_bps: int = Field(
        default=10,
        gt=0,
        le=10_000,
        description="Most that plans lose in any day, basis points of NAV; a band policy spends 30 to 60 a year.",
    )
    max_oracle_deviation_bps: int = Field(
        default=500, gt=0, le=10_000, description="Oracle against the lake's newest price, basis points; more refuses."
    )
    max_average_deviation_bps: int = Field(
        default=500,
        gt=0,
        le=10_000,
        description="Oracle against each traded pool's average, basis points; more refuses.",
    )
    average_window: PositiveDuration = Field(
        default="30m", description="Length of that average; longer is harder to manipulate and lags the market more."
    )
    close_when_denied: DayAtMost = Field(
        default="6h",
        description="How long deposits and exits stay closed where fills deny NAV, at most a day; 0s: people decide.",
    )
    min_trade_usd: float = Field(default=100.0, ge=0, description="Smaller legs are not traded, USD.")
    allow: Annotated[tuple[Address, ...], Distinct] = Field(
        default=(), description="Contracts that a plan may call; empty: those of the configured pools."
    )

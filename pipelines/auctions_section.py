"""The section of the settings that lets a vault offer trades to others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.setting_types import Distinct, Url


class AuctionsSection(BaseModel):
    """Offering trades to others where that is expected to cost less than the pools. Without it nothing is offered.

    Every venue has to be listed by the vault's owner first; an order book is told only where its address is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    venues: Annotated[tuple[Literal["cow", "dutch", "priority"], ...], Distinct] = Field(
        min_length=1, description="Kinds of auction that are used; each is listed by the vault's owner first."
    )
    start_bp: float = Field(
        default=60.0, gt=0, le=1_000, description="How far over the oracle a falling ask begins, basis points."
    )
    decay_bp: float | None = Field(
        default=None,
        gt=0,
        le=1_000,
        description="How far an ask falls each block, basis points; unset: what loses least at the volatility.",
    )
    floor_bp: float = Field(default=40.0, ge=0, le=1_000, description="Worst price, basis points under the oracle.")
    slack_bp: float = Field(
        default=20.0, ge=0, le=1_000, description="Basis points that the oracle may move before the order is void."
    )
    oracle_lag_bp: float = Field(
        default=15.5, ge=0, le=1_000, description="Mean absolute lag of the oracle behind the market, basis points."
    )
    min_saving_bp: float = Field(
        default=1.0, ge=0, le=1_000, description="Least expected saving over the pools, basis points, to offer at all."
    )
    fillers: int = Field(default=3, ge=1, le=100, description="Number of fillers that are expected to compete.")
    hedge_bp: float = Field(default=3.0, ge=0, le=1_000, description="What a filler pays to hedge, basis points.")
    margin_bp: float = Field(default=1.0, ge=0, le=1_000, description="What a filler wants beside, basis points.")
    cow_api: Url | None = Field(default=None, description="Order book of cow, e.g. https://api.cow.fi/mainnet.")
    uniswapx_api: Url | None = Field(
        default=None, description="Order book of dutch and priority orders, e.g. https://api.uniswap.org/v2."
    )

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

    venues: Annotated[tuple[Literal["cow", "dutch", "priority"], ...], Distinct, Field(min_length=1)]
    start_bp: float = Field(default=60.0, gt=0, le=1_000)  # how far over the oracle a falling ask begins
    decay_bp: float | None = Field(default=None, gt=0, le=1_000)  # a block; none: what loses least at the volatility
    floor_bp: float = Field(default=40.0, ge=0, le=1_000)  # worst price under the oracle
    slack_bp: float = Field(default=20.0, ge=0, le=1_000)  # how far the oracle may move before the order is void
    oracle_lag_bp: float = Field(default=15.5, ge=0, le=1_000)  # mean absolute lag behind the market
    min_saving_bp: float = Field(default=1.0, ge=0, le=1_000)
    fillers: int = Field(default=3, ge=1, le=100)
    hedge_bp: float = Field(default=3.0, ge=0, le=1_000)  # what a filler pays to hedge
    margin_bp: float = Field(default=1.0, ge=0, le=1_000)  # what he wants beside
    cow_api: Url | None = None  # e.g. https://api.cow.fi/mainnet
    uniswapx_api: Url | None = None  # e.g. https://api.uniswap.org/v2

"""What rows of options, indices, perpetuals, rates and positions must satisfy beyond their types, with the remedy."""

from __future__ import annotations

import polars as pl

from lake.sources.options import HIGHEST_VOL

KINDS = ("stable", "spot", "yield", "perp", "perp_inverse", "option", "lp_v3")
NEEDS: dict[str, tuple[str, ...]] = {
    "stable": ("quantity",),
    "spot": ("asset", "quantity"),
    "yield": ("asset", "quantity", "contract", "chain_id"),
    "perp": ("asset", "venue", "quantity", "entry_price", "margin"),
    "perp_inverse": ("asset", "venue", "quantity", "entry_price", "margin"),
    "option": ("asset", "venue", "quantity", "strike", "expiry", "option_kind", "settle"),
    "lp_v3": ("asset", "liquidity_raw", "tick_lower", "tick_upper", "base_token", "base_decimals", "quote_decimals"),
}
_HIGHEST_FUNDING = 0.1  # of the notional in one interval: beyond it a rate is in per cent or a year's
_VOL, _FORWARD, _COIN = pl.col("mark_iv"), pl.col("forward"), pl.col("quote") == "coin"
_CALL = pl.col("kind") == "c"

RULES: dict[str, tuple[tuple[str, pl.Expr], ...]] = {
    "options": (
        ("kind is not c (call) or p (put)", ~pl.col("kind").is_in(["c", "p"])),
        ("quote is not coin or usd", ~pl.col("quote").is_in(["coin", "usd"])),
        ("mark_iv is over 500 % a year: in per cent? divide by 100", _VOL > HIGHEST_VOL),
        ("expiry is not after ts: drop what expired", pl.col("expiry") <= pl.col("ts")),
        ("bid is above ask: a crossed quote", pl.col("bid") > pl.col("ask")),
        *(
            (
                f"{c} of a call above one coin: is the quote in USD? then --set quote=usd",
                _CALL & _COIN & (pl.col(c) > 1.0),
            )
            for c in ("bid", "mark")
        ),
        *(
            (f"{c} of a call above its forward: a call is worth less", _CALL & ~_COIN & (pl.col(c) > _FORWARD))
            for c in ("bid", "mark")
        ),
    ),
    "volindex": (("value is over 500 % a year: in points? divide by 100", pl.col("value") > HIGHEST_VOL),),
    "perps": (
        (
            "funding_rate is beyond 10 % in one interval: a fraction of an interval is required",
            pl.col("funding_rate").abs() > _HIGHEST_FUNDING,
        ),
        ("taker_fee is not below one: a fraction is required", pl.col("taker_fee") >= 1.0),
    ),
    "positions": (
        (f"kind is none of {', '.join(KINDS)}", ~pl.col("kind").is_in(KINDS)),
        *(
            (
                f"{column} is missing, which a position of kind {kind} needs",
                (pl.col("kind") == kind) & pl.col(column).is_null(),
            )
            for kind, columns in NEEDS.items()
            for column in columns
        ),
        ("option_kind is not c or p", ~pl.col("option_kind").is_in(["c", "p"])),
        ("settle is not coin or usd", ~pl.col("settle").is_in(["coin", "usd"])),
        ("expiry is not after ts: settle it and leave it out", pl.col("expiry") <= pl.col("ts")),
        ("tick_lower is not below tick_upper", pl.col("tick_lower") >= pl.col("tick_upper")),
    ),
}
"""Table -> (reason, rows at fault); a null is no fault here, what must not be null is said by the schema."""

"""Tables of options, perpetuals and the book held of them; part of the data dictionary in ``lake.tables``."""

from __future__ import annotations

import dataframely as dy

from lake.table_columns import finite, moment, name_key


class Options(dy.Schema):
    """Quotes of listed European options, one row an option and snapshot, known at its moment."""

    venue = name_key()
    asset = name_key()
    expiry = moment(key=True)
    strike = dy.Float64(primary_key=True, min_exclusive=0, allow_inf=False, allow_nan=False)  # USD
    kind = name_key()  # c (call) or p (put)
    ts = moment(key=True)
    bid = finite(at_least=0)  # in ``quote``; null: no quote
    ask = finite(above=0)
    mark = finite(at_least=0)
    quote = dy.String(nullable=False)  # coin or usd
    mark_iv = finite(above=0, required=True)  # a year, fraction: 0.65 is 65 %
    forward = finite(above=0, required=True)  # USD, of this expiry
    open_interest = finite(at_least=0)  # coins
    available_at = moment()


class VolIndex(dy.Schema):
    """Implied volatility indices. ``ts`` is the interval's open, the value its close."""

    asset = name_key()
    ts = moment(key=True)
    value = finite(above=0, required=True)  # a year, fraction
    horizon_s = dy.Int64(nullable=False, min=1)
    available_at = moment()


class Perps(dy.Schema):
    """Perpetual futures at a moment."""

    venue = name_key()
    asset = name_key()
    ts = moment(key=True)
    mark = finite(above=0, required=True)  # USD
    index = finite(above=0)
    funding_rate = finite(required=True)  # fraction of the notional that longs pay shorts each interval
    interval_s = dy.Int64(nullable=False, min=1)
    taker_fee = finite(at_least=0)  # fraction
    available_at = moment()


class Rates(dy.Schema):
    """Exchange rates of yield-bearing tokens at a moment."""

    chain_id = dy.Int64(primary_key=True, min=1)
    token = name_key()
    ts = moment(key=True)
    rate = finite(above=0, required=True)  # underlying a token
    available_at = moment()


class Positions(dy.Schema):
    """What a portfolio holds at a moment: all its rows of one ``ts`` are the whole of it; units by kind."""

    portfolio = name_key()
    position_id = name_key()
    ts = moment(key=True)
    kind = dy.String(nullable=False)  # stable | spot | yield | perp | perp_inverse | option | lp_v3
    venue = dy.String(nullable=True)
    asset = dy.String(nullable=True)  # the underlying; none of a stable
    quantity = finite()  # signed: units of the underlying; USD of a stable; USD notional of an inverse perp
    strike = finite(above=0)
    expiry = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    option_kind = dy.String(nullable=True)  # c or p
    settle = dy.String(nullable=True)  # coin or usd
    entry_price = finite(above=0)  # USD
    margin = finite()  # USD; coins of an inverse perp
    tick_lower = dy.Int64(nullable=True)
    tick_upper = dy.Int64(nullable=True)
    liquidity_raw = dy.Binary(nullable=True)  # 32-byte big-endian unsigned word
    base_token = dy.Int64(nullable=True, min=0, max=1)  # which token of the pool the underlying is
    base_decimals = dy.Int64(nullable=True, min=0, max=36)
    quote_decimals = dy.Int64(nullable=True, min=0, max=36)
    chain_id = dy.Int64(nullable=True, min=1)
    contract = dy.String(nullable=True)  # token of a yield position, whose rate is in ``rates``
    available_at = moment()

"""``[limits.ASSET]`` of BOOK.toml: how much gamma and vega a book may have, and how options may be traded."""

from __future__ import annotations

from pathlib import Path

from lake.errors import ConfigError
from pipelines.stages.book_file import Row, document
from policy.hedging.suggest import GreekLimit

_BOUNDS = ("cash_gamma_usd", "vega_usd_per_point")
_TRADING = {"lot_coins", "most_coins", "legs", "fee", "open_share", "least_days"}
MOST_LEGS = 6


def read_limits(path: Path) -> list[GreekLimit]:
    """Return the limits of every underlying of ``path``; raises ConfigError with every fault."""
    given = document(path).get("limits")
    if not isinstance(given, dict) or not given or not all(isinstance(v, dict) for v in given.values()):
        raise ConfigError(f"book {path}: no limits; write [limits.ETH] with cash_gamma_usd and/or vega_usd_per_point")
    faults: list[str] = []
    found = [_limit(asset, Row(f"[limits.{asset}]", values, faults)) for asset, values in given.items()]
    if faults:
        raise ConfigError(f"book {path}: " + "; ".join(faults))
    return found


def _limit(asset: str, row: Row) -> GreekLimit:
    unknown = sorted(row.values.keys() - set(_BOUNDS) - _TRADING)
    if unknown:
        row.say(f"{', '.join(unknown)}: no key of limits ({', '.join(sorted({*_BOUNDS, *_TRADING}))})")
    bounds = {k: row.number(k) for k in _BOUNDS if k in row.values}
    if not bounds:
        row.say(f"{' or '.join(_BOUNDS)} is required")
    for key, value in bounds.items():
        if value <= 0:
            row.say(f"{key} = {value:g}: must be above zero; whole lots reach no bound of zero")
    usual = GreekLimit(asset)
    trading = {k: row.number(k, float(getattr(usual, k))) for k in _TRADING}
    for key, most in (("lot_coins", None), ("most_coins", None), ("open_share", 1.0), ("legs", float(MOST_LEGS))):
        if not trading[key] > 0 or (most is not None and trading[key] > most):
            row.say(f"{key} = {trading[key]:g}: must be above zero" + (f" and at most {most:g}" if most else ""))
    if trading["least_days"] < 0:
        row.say(f"least_days = {trading['least_days']:g}: must not be negative")
    if not 0 <= trading["fee"] < 1:
        row.say(f"fee = {trading['fee']:g}: a fraction of the underlying, 0.0003 for 3 bp")
    if trading["legs"] != int(trading["legs"]):
        row.say(f"legs = {trading['legs']:g}: a whole number is required")
    return GreekLimit(
        asset, bounds.get("cash_gamma_usd"), bounds.get("vega_usd_per_point"), trading["lot_coins"],
        trading["most_coins"], int(trading["legs"]), trading["fee"], trading["open_share"],
        trading["least_days"],
    )  # fmt: skip

"""A comparison as frames, with the user's own rules beside the shipped ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from lake.store import Lake
from policy.comparison.compare import run
from policy.simulation.planner import BandRule
from policy.strategies.registry import CompareConfig


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found.

    ``policies``: a row per policy, scenario and NAV with costs in bp of NAV a year. ``pairs``: total cost of ``a`` over
    that of ``b`` with its 95 % interval. ``trades``: every trade, weights before and after. ``json``: all of it,
    as ``foredrift compare --json`` writes it.
    """

    policies: pl.DataFrame
    pairs: pl.DataFrame
    portfolios: pl.DataFrame
    trades: pl.DataFrame
    weekly: pl.DataFrame
    json: dict[str, Any]


def compare(lake: Lake, config: CompareConfig, policies: Iterable[str | BandRule] | None = None) -> Compared:
    """Compare ``policies`` (names and rules of your own; None: those of ``config``) on one ledger, yours last.

    The same lake and settings give the same figures to the last digit. Raises ConfigError for an unknown or repeated
    name, NotEnoughData where prices or gas do not reach.
    """
    own: list[BandRule] = []
    if policies is not None:
        given = list(policies)
        own = [p for p in given if not isinstance(p, str)]
        config = replace(config, policies=tuple(p for p in given if isinstance(p, str)))
    found = run(lake, config, own=own)
    json: dict[str, Any] = found.json
    rows, pairs = (pl.DataFrame(json[name], infer_schema_length=None) for name in ("policies", "pairs"))
    return Compared(rows, pairs, found.portfolios, found.trades, found.weekly, json)

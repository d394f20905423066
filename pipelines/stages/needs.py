"""What a comparison or a training run needs, checked in seconds before it works for minutes.

Everything missing is named at once, with its remedy, and nothing that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from lake.errors import ConfigError, NotEnoughData
from lake.store import Lake
from lake.units import HOUR_S
from lake.universe import STABLE
from policy.comparison.resolved import names_at
from policy.names import installed
from policy.realtime.looks import LOOKS
from policy.strategies.registry import NAMES, CompareConfig

if TYPE_CHECKING:
    from models.base import Family
    from models.config import ModelConfig

LEAST = timedelta(days=7)  # of bars within the span before an asset can be held in it


def of_comparison(lake: Lake, config: CompareConfig) -> None:
    """Raise ConfigError for unknown policies or a wrong dial, NotEnoughData naming every missing price and gas."""
    hourly, _ = names_at(config.resolution, config.policies)
    unknown = [n for n in hourly if n not in NAMES and n not in installed()]
    if unknown:
        finer = () if config.resolution == "hour" else LOOKS
        known = ", ".join((*NAMES, *installed(), *(n for n in finer if n not in NAMES)))
        raise ConfigError(f"there is no policy {', '.join(unknown)}; there are {known}")
    if config.skill is not None and not 0.0 <= config.skill <= 1.0:
        raise ConfigError(f"the skill dial takes 0 to 1, got {config.skill}")
    spans, coarse = _spans(lake, HOUR_S, config.source, config.end)
    assets = config.assets if config.assets is not None else tuple(sorted(spans))
    wanted = sorted({a for a in assets if a not in STABLE or a in spans} | {config.native})
    found = [_price(asset, spans, coarse, config.start, config.end) for asset in wanted]
    gas = lake.scan("gas", as_of=config.end).filter(pl.col("chain_id") == config.chain_id)
    first = gas.select(pl.col("available_at").min()).collect().item()
    if first is None:
        found.append(f"no gas of chain {config.chain_id} before {config.end}: foredrift import gas FILE, or ingest it")
    elif first > config.start:
        found.append(
            f"gas of chain {config.chain_id} starts {_day(first)}, after {_day(config.start)}: import earlier gas, or "
            f"start later (--start {_day(first + timedelta(hours=1))})"
        )
    _raise("compare", found)


def of_training(lake: Lake, cfg: ModelConfig, families: Sequence[Family], end: datetime, *, named: bool) -> None:
    """Raise NotEnoughData where a family cannot be trained for want of data.

    ``named`` families must all have their data; without names those without any are skipped, as long as one has some.
    A drift family with prices needs those of every configured asset: one missing leaves no basket to drift.
    """
    tables = {"gas": "gas", "drift": "prices", "slippage": "pool_state"}
    found: list[str] = []
    able = 0
    for family in families:
        table = tables.get(family.name)
        if not family.keys(lake, cfg):
            if named:
                found.append(f"{family.name}: no rows of {table or 'its table'}; import or ingest them")
            continue
        able += 1
        if table is not None:
            found.append(_history(lake, table, family.name, cfg, end))
        if table == "prices":
            spans, coarse = _spans(lake, cfg.step_s, cfg.price_source, end)
            missing = [a for a in cfg.targets if a not in spans and a not in STABLE]
            found += [f"{family.name}: {_price(a, spans, coarse, end, end)}" for a in missing]
    if not able and not found:
        found.append("prices, gas or pool states: the lake has none of them; foredrift ingest, or foredrift import")
    _raise("train", found)


def _history(lake: Lake, table: str, name: str, cfg: ModelConfig, end: datetime) -> str:
    first: datetime | None = lake.scan(table, as_of=end).select(pl.col("available_at").min()).collect().item()
    if first is not None and end - first >= timedelta(days=cfg.min_train_days):
        return ""
    since = "none" if first is None else f"{_day(first)} on"
    return (
        f"{name}: {cfg.min_train_days} days of {table} before {_day(end)}, the lake has {since}; import earlier history"
    )


def _spans(
    lake: Lake, step_s: int, source: str | None, end: datetime
) -> tuple[dict[str, tuple[datetime, datetime]], set[str]]:
    """Return first and last moment of every asset's usable bars, and the assets that have only longer ones."""
    rows = lake.scan("prices", as_of=end)
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    usable = pl.col("step") <= step_s
    done = pl.col("ts") + pl.duration(seconds=pl.col("step"))
    each = rows.group_by("asset").agg(
        first=done.filter(usable).min(), last=done.filter(usable).max(), some=usable.any()
    )
    table = each.sort("asset").collect()
    fine = table.filter("some").select("asset", "first", "last").iter_rows()
    return {a: (first, last) for a, first, last in fine}, set(table.filter(~pl.col("some"))["asset"])


def _price(
    asset: str, spans: dict[str, tuple[datetime, datetime]], coarse: set[str], start: datetime, end: datetime
) -> str:
    """Return what ``asset`` lacks over the span, empty where it can be held in it."""
    if asset in coarse:
        return f"{asset} has only bars longer than an hour: import hourly ones"
    if asset not in spans:
        return f"no prices of {asset}: foredrift import prices FILE, or ingest them; or leave it out of the assets"
    first, last = spans[asset]
    if first > end - min(LEAST, end - start) and first > start:
        late = f"{asset} is listed {_day(first)}, too late for a span to {_day(end)}"
        return f"{late}: import earlier prices, or leave it out"
    if last <= start:
        return f"prices of {asset} end {_day(last)}, before {_day(start)}: import later prices, or leave it out"
    return ""


def _raise(what: str, found: Sequence[str]) -> None:
    lacking = [line for line in found if line]
    if lacking:
        raise NotEnoughData(f"{what} needs what the lake does not have: " + "; ".join(lacking))


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}"

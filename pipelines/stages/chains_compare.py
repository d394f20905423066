"""Compare policies of one portfolio on several chains on the lake's prices, gas and depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lake.errors import ConfigError
from lake.universe import STABLE, chain
from pipelines.progress import Progress, silent
from pipelines.reports.nulls import nan_to_none
from pipelines.stages.train import window
from pipelines.wiring import HasLake, lake_of
from policy.chains.netting import MOST
from policy.comparison.chains import ChainsConfig, compare_chains
from policy.simulation.chain_world import ChainTerms
from policy.simulation.history import load


def compare(
    project: HasLake, chains: str, span: tuple[str | None, str | None], portfolios: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:  # fmt: skip
    """Return the comparison on ``chains`` (comma-separated ids) over ``span``, undefined figures as None.

    The first chain is the one whose gas and pools the lake records. Raises ConfigError for chains that are not known.
    """
    ids = chain_ids(chains)
    config = ChainsConfig(terms=ChainTerms(chains=ids))
    if portfolios is not None:
        config = replace(config, portfolios=portfolios)
    lake = lake_of(project)
    start, end = window(lake, *span)
    recorded = lake.scan("prices").select("asset").unique().collect()["asset"].to_list()
    risky = sorted(a for a in recorded if a not in STABLE)
    history = load(lake, start, end, [*risky, config.cash], chain_id=ids[0])
    found: dict[str, Any] = nan_to_none(compare_chains(history, config, progress))
    return found


def chain_ids(given: str) -> tuple[int, ...]:
    """Return the chain ids in ``given``; raises ConfigError naming what is no chain, or too many of them."""
    try:
        ids = tuple(int(part) for part in given.split(","))
    except ValueError:
        raise ConfigError(f"--chains {given}: give chain ids with commas between them, e.g. 1,42161,8453") from None
    for one in ids:
        chain(one)
    if len(set(ids)) < len(ids) or len(ids) > MOST:
        raise ConfigError(f"--chains {given}: give at most {MOST} chains, each once")
    if chain(ids[0]).l1_chain_id is not None:
        raise ConfigError(
            f"--chains {given}: the first is the chain whose gas is recorded and whose data the others pay for; "
            f"put {chain(ids[0]).l1_chain_id} first"
        )
    return ids

"""The local market at the end of the demo: one live rebalance of a real vault, gone with the process."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pipelines.demo.localnet import MANDATE, depths_at, tick_at
from pipelines.reports import terminal
from pipelines.sections import ChainSection, PoolRow, PortfolioSection, VaultSection
from pipelines.servers.phrase import using
from pipelines.settings import Settings
from pipelines.stages.rebalance import rebalance
from pipelines.wiring import lake_of
from policy.execution.submission.signer import create_keystore
from policy.localnet.market import Localnet, start
from policy.localnet.packages import NoNode
from policy.localnet.portfolio import reference_vault
from policy.localnet.world import NUMERAIRE

TARGETS = {"USDC": 2_000, "ETH": 5_000, "BTC": 3_000}
DEPOSIT_USD = 250_000
PASSPHRASE = "local"  # noqa: S105 # nosec B105 - of a well-known development key on a chain that dies with the process

__all__ = ["NoNode", "rebalance_on_local_chain"]


def rebalance_on_local_chain(settings: Settings, end: datetime) -> dict[str, Any]:
    """Start a local chain at the sample market's last prices, invest a real vault there and return the cycle's report.

    Raises NoNode without Node.js.
    """
    lake = lake_of(settings)
    opening = tick_at(lake, end, [a for a in TARGETS if a != NUMERAIRE], settings.chain.history)
    extras = [reference_vault(TARGETS, deposit_usd=DEPOSIT_USD, mandate=MANDATE)]
    depth = depths_at(lake, end, TARGETS)
    gas = opening.gas_gwei or 1.0
    with start(opening.prices, depths=depth, extras=extras, at=end, gas_gwei=gas) as net, using(PASSPHRASE):
        terminal.say(f"local chain {net.chain_id} at {net.url}, vault {net.world.extras['vault']}")
        local = local_settings(settings, net)
        result = rebalance(local, live=True, on_plan=terminal.plan)
        terminal.settlement(result)
    return result


def local_settings(settings: Settings, net: Localnet) -> Settings:
    """Return ``settings`` pointed at the local market's vault, with its own journal, audit and keystore."""
    folder = Path(".foredrift") / f"local-{os.getpid()}"
    path = settings.path(str(folder / "keeper.json"))
    if not path.exists():
        create_keystore(path, PASSPHRASE, net.accounts["keeper"].key, iterations=2)
    pools = tuple(
        PoolRow(address=p.address, venue=p.venue, asset=p.asset, router=p.router)
        for p in net.world.pools.values()
        if {p.asset, p.quote} <= set(TARGETS)
    )
    portfolio = PortfolioSection(
        name="local", assets=tuple(TARGETS), targets=tuple(v / 10_000 for v in TARGETS.values()),
        nav_usd=DEPOSIT_USD, tolerance=0.05,
    )  # fmt: skip
    chain = ChainSection(id=net.chain_id, rpc_urls=(SecretStr(net.url),), history_id=settings.chain.history)
    vault = VaultSection(
        kind="reference", address=net.world.extras["vault"], keeper=net.accounts["keeper"].address,
        keystore=str(folder / "keeper.json"), journal=str(folder / "journal"), audit=str(folder / "audit.jsonl"),
        relay_url=SecretStr(net.url),
    )  # fmt: skip
    sources = settings.sources.model_copy(update={"pools": pools})
    limits = settings.mandate.model_copy(update={"max_turnover_bps": 10_000, "max_slippage_bps": 200})
    return settings.model_copy(
        update={"portfolio": portfolio, "chain": chain, "vault": vault, "sources": sources, "mandate": limits}
    )

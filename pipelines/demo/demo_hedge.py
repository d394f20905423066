"""The hedge at the end of the demo: rules compared on the sample market, then one live hedge on a local chain."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from lake.errors import NotEnoughData
from pipelines.demo.demo_chain import PASSPHRASE
from pipelines.demo.localnet import tick_at
from pipelines.hedge_section import HedgeSection, as_vault
from pipelines.reports import hedge_tables, terminal
from pipelines.reports.hedge_charts import write_frontier
from pipelines.sections import ChainSection, PoolRow
from pipelines.servers.phrase import using
from pipelines.stages.book_file import GAS_UNITS, Template
from pipelines.stages.hedge import hedge
from pipelines.stages.hedge_compare import market, templates
from pipelines.vault_settings import VaultSettings
from pipelines.vault_setup.hedge_context import HedgeDesk
from pipelines.wiring import lake_of
from policy.comparison import hedges as panel
from policy.comparison.hedges import HedgeTerms
from policy.execution.submission.signer import create_keystore
from policy.localnet.hedging import LocalBook, hedged_book, refresh_vols
from policy.localnet.market import Localnet, start

KEEPER = "trader"
GAMMA, STAGGER_H, DAYS = 10.0, 240.0, 120
BOOK = Template("straddle", "ETH", 1e6, GAS_UNITS, 30.0, 1.0, 0.2, GAMMA, None)


def hedge_demo(deployment: VaultSettings, end: datetime, folder: Path) -> dict[str, Any]:
    """Write the frontier of hedge rules to ``folder`` and hedge a book live; return the picture's path and the report.

    Raises NoNode without Node.js.
    """
    lake = lake_of(deployment)
    found = market(lake, BOOK, (end - timedelta(days=DAYS), end), 3600)
    if found is None:
        raise NotEnoughData("the sample market has no hourly bars of ETH: foredrift ingest")
    cell = panel.compare(found, templates(found, BOOK, STAGGER_H), HedgeTerms(1e6, "L1", 0.0010), GAMMA)
    picture = write_frontier({"cells": [asdict(cell)]}, folder)
    best = cell.pair("hedge_delta").objective
    terminal.say(f"hedge_gas_band over the best fixed delta band, gas + fee + risk: {best.value:.2f} "
                 f"({best.low:.2f}-{best.high:.2f}); cost against tracking error: {picture}")  # fmt: skip
    opening = tick_at(lake, end, ["ETH"])
    book = LocalBook(expiry=int(end.timestamp()) + 30 * 86_400, keeper=KEEPER)
    with start(opening.prices, extras=[hedged_book(book)], at=end) as net, using(PASSPHRASE):
        refresh_vols(net)
        report = hedge(desk(deployment, net), live=True, on_plan=hedge_tables.hedge_plan)
        hedge_tables.hedge(report)
    return {"frontier": str(picture), "hedge": report}


def desk(deployment: VaultSettings, net: Localnet) -> HedgeDesk:
    """Return the local market's hedge account, with its own journal, audit and keystore."""
    folder = Path(".foredrift") / f"hedge-{os.getpid()}"
    path = deployment.path(str(folder / "keeper.json"))
    if not path.exists():
        create_keystore(path, PASSPHRASE, net.accounts[KEEPER].key, iterations=2)
    pools = tuple(
        PoolRow(address=p.address, venue=p.venue, asset=p.asset, router=p.router)
        for p in net.world.pools.values()
        if {p.asset, p.quote} == {"ETH", "USDC"} and p.venue == "uniswap_v3"
    )
    account = HedgeSection(
        account=net.world.extras["hedge_account"], keeper=net.accounts[KEEPER].address,
        keystore=str(folder / "keeper.json"), every="12s", gamma=GAMMA, journal=str(folder / "journal.jsonl"),
        audit=str(folder / "audit.jsonl"),
    )  # fmt: skip
    chain = ChainSection(id=net.chain_id, rpc_urls=(SecretStr(net.url),), history_id=deployment.chain.history)
    sources = deployment.sources.model_copy(update={"pools": pools})
    local = replace(deployment, name="hedge", vault=as_vault(account), chain=chain, sources=sources)
    return HedgeDesk(local, account)

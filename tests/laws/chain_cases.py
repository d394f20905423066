"""On-chain sources for the source laws: half a day of a local market, made once a session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lake.sources.base import Source
from tests.needs import need_node

NAMES = ("blocks_hourly", "blocks_each", "heads", "pool_v3", "pool_v2", "oracle")
START, HOURS = datetime(2022, 3, 1, tzinfo=UTC), 14


@pytest.fixture(scope="session")
def chain_history() -> Iterator[dict[str, Source]]:
    """Sources by name, all with rows from START for HOURS hours: a price move an hour, three further blocks."""
    from lake.sources.blocks import BlockSource
    from lake.sources.heads import HeadSource
    from lake.sources.oracles import OracleSource
    from lake.sources.pools import PoolSource
    from lake.universe import CHAINS
    from policy.localnet.market import start

    need_node()
    with start({"ETH": 1_500.0}, at=START + timedelta(minutes=1)) as net:
        for hour in range(HOURS + 1):
            moment = START + timedelta(hours=hour, minutes=5)
            net.advance_prices({"ETH": 1_500 + 10 * ((hour * 7) % 13)}, gas_gwei=10 + hour % 9, at=moment)
            if hour % 3 == 0:
                net.send("trader", net.accounts["keeper"].address, b"", value=1, gas=21_000)
            net.mine(3, seconds=900)
        chain, rpc = CHAINS[31337], net.rpc
        pools = [net.world.pools[n].address for n in ("v3:ETH/USDC:3000", "v2:ETH/USDC:3000")]
        yield {
            "blocks_hourly": BlockSource(rpc, chain, confirmations=2),
            "blocks_each": BlockSource(rpc, chain, None, confirmations=2),
            "heads": HeadSource(rpc, chain, confirmations=2),
            "pool_v3": PoolSource(rpc, chain, pools[0], confirmations=2, page=4),
            "pool_v2": PoolSource(rpc, chain, pools[1], "uniswap_v2", confirmations=2),
            "oracle": OracleSource(rpc, chain, str(net.world.tokens["ETH"].feed), confirmations=2, page=4),
        }

"""The websocket face of the local market, its faults, recorded blocks, and the follower behind all of them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from websockets.sync.client import connect

from lake.errors import ConfigError, DataError, ExecutionError, SchemaError
from lake.evm import head_of, next_base_fee
from lake.heads import HeadFollower
from lake.universe import CHAINS
from pipelines.demo.localnet import Serving
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.history import Tick, block_ticks
from policy.localnet.market import start
from policy.localnet.replay import RecordedBlock, recorded_blocks
from tests.realtime.heads_run import follow

T0 = datetime(2022, 9, 14, 16, 24, 52, tzinfo=UTC)


@pytest.fixture(scope="module")
def net():
    with start({"ETH": 1_600.0}, at=T0 - timedelta(minutes=5)) as market:
        yield market


class Socket:
    """One connection that has subscribed."""

    def __init__(self, net, *subscription):
        self.connection = connect(net.listen())
        self.ask("eth_subscribe", *subscription)

    def ask(self, method, *params):
        self.connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
        self.answer = json.loads(self.connection.recv(5))
        return self.answer

    def heard(self, count):
        """Return the next ``count`` announcements."""
        return [json.loads(self.connection.recv(5))["params"]["result"] for _ in range(count)]

    def numbers(self, count):
        return [int(h["number"], 16) for h in self.heard(count)]


@pytest.fixture
def heads(net):
    net.faults.clear()
    socket = Socket(net, "newHeads")
    yield socket
    net.faults.clear()
    socket.connection.close()


@pytest.mark.chain
def test_each_block_is_announced_as_the_node_has_it(net, heads):
    net.mine(2)
    tip = net.node.head()
    first, second = heads.heard(2)
    assert (second["hash"], second["parentHash"]) == (tip.hash, first["hash"])
    assert "transactions" not in second
    assert heads.ask("eth_blockNumber")["result"] == hex(tip.number)
    assert "no subscription" in heads.ask("eth_subscribe", "syncing")["error"]["message"]


@pytest.mark.chain
def test_a_reorganisation_announces_its_blocks_and_takes_logs_back(net, heads):
    pool = net.world.pools["v3:ETH/USDC:3000"].address
    logs = Socket(net, "logs", {"address": pool})
    net.advance_prices({"ETH": 1_650.0})
    (log,) = logs.heard(1)
    assert log["address"].lower() == pool.lower()
    net.reorg(1)
    (gone,) = logs.heard(1)
    assert gone["removed"] is True
    assert (gone["transactionHash"], gone["blockHash"]) == (log["transactionHash"], log["blockHash"])
    old, new = heads.heard(2)
    assert old["number"] == new["number"]
    assert old["hash"] != new["hash"] == net.node.head().hash
    logs.connection.close()


@pytest.mark.chain
def test_faults_of_the_socket_do_what_they_say(net, heads):
    def after(fault, blocks):
        net.faults.clear()
        net.faults.add(fault)
        first = net.node.head().number + 1
        net.mine(blocks)
        return first

    first = after(Fault(FaultKind.DUP), 2)
    assert heads.numbers(3) == [first, first, first + 1]
    first = after(Fault(FaultKind.SWAP), 2)
    assert heads.numbers(2) == [first + 1, first]
    first = after(Fault(FaultKind.LATE, blocks=2), 4)
    assert heads.numbers(4) == [first + 1, first + 2, first, first + 3]
    first = after(Fault(FaultKind.STALL, blocks=2), 4)
    assert heads.numbers(1) == [first + 3]
    first = after(Fault(FaultKind.LAGGING, ("newHeads",), blocks=2), 2)
    assert heads.numbers(2) == [first - 2, first + 1]
    first = after(Fault(FaultKind.SKEW, skew_s=300), 1)
    assert int(heads.heard(1)[0]["timestamp"], 16) == net.node.head().time + 300


@pytest.mark.chain
def test_blocks_over_http_are_skewed_too(net):
    net.faults.clear()
    time = head_of(net.rpc).time
    net.faults.add(Fault(FaultKind.SKEW, skew_s=-90))
    assert head_of(net.rpc).time == time - 90
    net.faults.clear()


@pytest.mark.chain
def test_the_follower_keeps_the_chain_through_every_fault(net):
    """The long run of this is ``make heads``."""
    net.faults.clear()
    found = asyncio.run(follow(net, 90, 3, 12))
    net.faults.clear()
    assert found["chain"] == {"wrong": 0, "twice": 0, "missing": 0}
    assert found["reorgs_made"] > 0
    assert found["jumps"] == 0


def recording(blocks=4):
    """Return recorded blocks whose fees follow from each other, as a file holds them."""
    rows, fee = [], 18_525_573_914
    for i in range(blocks):
        used = 8_685_649 if i % 2 else 30_000_000
        rows.append((15_533_942 + i, T0 + timedelta(days=1, seconds=14 * i), fee, used, 30_000_000))
        fee = next_base_fee(fee, used, 30_000_000, CHAINS[1])
    names = ["block_number", "ts", "base_fee_wei", "gas_used", "gas_limit"]
    return pl.DataFrame(rows, schema=names, orient="row")


@pytest.mark.chain
def test_recorded_blocks_are_played_with_their_time_fee_and_fullness(net, tmp_path):
    net.faults.clear()
    recording().write_parquet(tmp_path / "blocks.parquet")
    blocks = recorded_blocks(tmp_path / "blocks.parquet")

    async def first_head():
        async for event in HeadFollower(None, [net.rpc], clock=lambda: blocks[-1].time):
            return event.head
        return None

    for block in blocks:
        net.replay(block, {"ETH": 1_650.0} if block is blocks[1] else None)
        seen = asyncio.run(first_head())
        assert (seen.timestamp_s, seen.base_fee_wei) == (block.time, block.base_fee_wei)
        after = blocks[blocks.index(block) + 1 :]
        assert not after or seen.next_base_fee_wei == after[0].base_fee_wei
    with pytest.raises(ExecutionError, match="is not after the newest"):
        net.replay(blocks[0])


def test_a_recording_is_played_at_its_speed_and_with_the_prices_of_its_time():
    blocks = [RecordedBlock(1_000 + 10 * i, 10**9 + i, 1, 2) for i in range(4)]
    prices = [Tick({"ETH": p}, at=datetime.fromtimestamp(t, UTC)) for t, p in ((900, 1.0), (1_011, 2.0), (1_012, 3.0))]
    ticks = list(block_ticks(blocks, prices, 50.0))
    assert [t.wait_s for t in ticks] == [0.0, 0.2, 0.2, 0.2]
    assert [dict(t.prices) for t in ticks] == [{"ETH": 1.0}, {}, {"ETH": 3.0}, {}]
    assert [round(t.gas_gwei * 10**9) for t in ticks] == [b.base_fee_wei for b in blocks]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (pl.col("base_fee_wei").alias("fee"), SchemaError, "base_fee_wei"),
        (-pl.col("base_fee_wei"), DataError, "base_fee_wei"),
        (pl.col("gas_used") * 2, DataError, "rows are no blocks"),
        (pl.col("block_number") * 2, DataError, "does not follow the one before it"),
        (pl.col("ts").reverse(), DataError, "does not follow the one before it"),
    ],
)
def test_what_is_no_recording_is_refused_in_words(tmp_path, change, error, words):
    rows = recording().with_columns(change)
    if "fee" in rows.columns:
        rows = rows.drop("base_fee_wei")
    rows.write_csv(tmp_path / "blocks.csv")
    with pytest.raises(error, match=words):
        recorded_blocks(tmp_path / "blocks.csv")


def test_options_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="leave --start out"):
        Serving(recording=tmp_path / "x", replay=True, start="2022-09-14")
    with pytest.raises(ConfigError, match="--replay FILE"):
        Serving(recording=tmp_path / "x")
    with pytest.raises(ConfigError, match="--speed is that of recorded blocks"):
        Serving(replay=True, speed=50)

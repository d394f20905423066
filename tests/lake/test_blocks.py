"""Blocks: the base fee rule against a real node, tips that ignore empty blocks, intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.evm import next_base_fee
from lake.sources.blocks import Block, BlockSource, block_at, fee_history, gas_rows
from lake.store import Lake
from lake.universe import CHAINS
from tests.chain_fixtures import hour_ahead, into_the_hour

ETH = CHAINS[1]


def test_the_published_examples_of_eip_1559():
    assert next_base_fee(1_000_000_000, 10_000_000, 20_000_000, ETH) == 1_000_000_000
    assert next_base_fee(1_000_000_000, 5_000_000, 20_000_000, ETH) == 937_500_000
    assert next_base_fee(1_000_000_000, 20_000_000, 20_000_000, ETH) == 1_125_000_000
    assert next_base_fee(1_000_000_000, 0, 20_000_000, ETH) == 875_000_000
    assert next_base_fee(1, 20_000_000, 20_000_000, ETH) == 2  # rises by at least 1 wei


@given(st.integers(0, 10**13), st.integers(0, 30_000_000), st.sampled_from(sorted(CHAINS)))
def test_the_base_fee_moves_with_fullness_and_within_its_bound(fee, used, chain_id):
    chain = CHAINS[chain_id]
    limit = 30_000_000
    after = next_base_fee(fee, used, limit, chain)
    target = limit // chain.elasticity
    assert after >= chain.min_base_fee_wei
    if fee >= chain.min_base_fee_wei:
        assert (after - fee) * (used - target) >= 0
        assert abs(after - fee) <= max(1, fee * (chain.elasticity - 1) // chain.denominator, fee // chain.denominator)
    assert next_base_fee(fee, min(limit, used + 1000), limit, chain) >= after


@pytest.mark.chain
def test_the_prediction_equals_every_block_of_a_node():
    """Blocks of random fullness, mined by the node's own rule; no block's fee is set by hand."""
    import random

    from policy.localnet.accounts import dev_accounts
    from policy.localnet.anvil import Anvil

    rng = random.Random(7)
    accounts = dev_accounts()
    with Anvil(base_fee_wei=20 * 10**9) as node:
        burn = "0x5b600056"  # a loop that uses up its gas limit
        for _ in range(60):
            for role in rng.sample(sorted(accounts), rng.choice([0, 0, 1, 3, 6, 10])):
                tx = {"from": accounts[role].address, "data": burn, "gas": hex(2_900_000), "maxFeePerGas": hex(10**13)}
                node.rpc.call("eth_sendTransaction", [tx])
            node.rpc.call("evm_mine")
        # the node gives block 1 the fee of its start-up option; the rule holds from there on
        blocks = [block_at(node.rpc, n) for n in range(1, block_at(node.rpc, "latest").number + 1)]
    fees = [b.base_fee_wei for b in blocks]
    used = [b.gas_used for b in blocks]
    predicted = [
        next_base_fee(fee, gas, b.gas_limit, CHAINS[31337]) for fee, gas, b in zip(fees, used, blocks, strict=True)
    ]
    assert predicted[:-1] == fees[1:]
    assert len({g > b.gas_limit // 2 for g, b in zip(used, blocks, strict=True)}) == 2


def test_an_empty_block_says_nothing_about_tips():
    gwei = 10**9
    blocks = [
        Block(1, 3600, 10 * gwei, 0.5, (gwei, 2 * gwei, 9 * gwei)),
        Block(2, 3612, 12 * gwei, 0.0, None),
        Block(3, 3624, 14 * gwei, 0.7, (gwei, 4 * gwei, 9 * gwei)),
        Block(4, 7300, 20 * gwei, 0.0, None),
    ]
    hours = gas_rows(blocks, 1, 3600)
    assert hours["base_fee_gwei"].to_list() == [12.0, 20.0]
    assert hours["priority_fee_gwei"].to_list() == [3.0, None]
    assert hours["gas_used_ratio"].to_list() == pytest.approx([0.4, 0.0])
    assert (hours["available_at"] - hours["ts"]).to_list() == [timedelta(hours=1)] * 2
    singles = gas_rows(blocks, 1, None, 12)
    assert singles["block_number"].to_list() == [1, 2, 3, 4]
    assert singles["priority_fee_gwei"].to_list() == [2.0, None, 4.0, None]


@pytest.mark.chain
@pytest.mark.parametrize("into_hour_s", [0, 3_599])
def test_source_reads_hours_and_blocks_from_a_node(localnet, tmp_path, into_hour_s):
    into_the_hour(localnet, into_hour_s)
    start = hour_ahead(localnet)
    localnet.mine(1, seconds=start + 30 - localnet.node.head().time, base_fee_wei=8 * 10**9)
    for i in range(40):  # 2 h 40 min of blocks, every third with a tip of 3 gwei
        if i % 3 == 0:
            localnet.send("trader", localnet.accounts["keeper"].address, b"", value=1, tip_wei=3 * 10**9, gas=21_000)
        localnet.mine(1, seconds=240)
    source = BlockSource(localnet.rpc, CHAINS[31337], confirmations=2)
    begin = datetime.fromtimestamp(start, UTC)
    hours = list(source.collect(begin - timedelta(minutes=5), begin + timedelta(hours=9)))
    assert [ts for f in hours for ts in f["ts"]] == [begin, begin + timedelta(hours=1)]  # the third is unfinished
    assert [p for f in hours for p in f["priority_fee_gwei"]] == [3.0, 3.0]
    singles = BlockSource(localnet.rpc, CHAINS[31337], every=None, confirmations=2)
    rows = [r for f in singles.collect(begin, begin + timedelta(hours=9)) for r in f.iter_rows(named=True)]
    assert len(rows) == 41 - 2
    for row in rows:
        header = block_at(localnet.node.admin, row["block_number"])
        assert row["base_fee_gwei"] == header.base_fee_wei / 1e9
        assert row["ts"].timestamp() == header.time
    mean = sum(r["base_fee_gwei"] for r in rows if r["ts"] < begin + timedelta(hours=1))
    count = sum(r["ts"] < begin + timedelta(hours=1) for r in rows)
    assert hours[0]["base_fee_gwei"][0] == pytest.approx(mean / count)
    lake = Lake(str(tmp_path))
    for frame in hours:
        lake.write("gas", frame)
    assert lake.scan("gas").collect().height == 2


@pytest.mark.chain
def test_a_long_range_is_read_in_pages(localnet, monkeypatch):
    from lake.sources import blocks

    monkeypatch.setattr(blocks, "HISTORY", 7)
    monkeypatch.setattr(blocks, "CHUNK", 13)
    first = localnet.node.head().number + 1
    start = datetime.fromtimestamp(localnet.node.head().time + 12, UTC)
    localnet.mine(60)
    found = fee_history(localnet.node.admin, first, first + 40)
    assert [b.number for b in found] == list(range(first, first + 41))
    source = BlockSource(localnet.node.admin, CHAINS[31337], every=timedelta(minutes=1), confirmations=0)
    frames = list(source.collect(start, start + timedelta(hours=1)))
    times = [t for f in frames for t in f["ts"]]
    assert len(frames) > 2
    assert times == sorted(set(times))
    assert {(b - a).total_seconds() for a, b in zip(times, times[1:], strict=False)} == {60.0}

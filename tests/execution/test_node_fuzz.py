"""A short run of the node fuzz (``make nodefuzz`` is the long one), and each answer that once ended a step badly."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from lake.errors import RpcError
from lake.evm import Call, try_read
from lake.rpc import FakeTransport, Rpc
from policy.execution.submission.node import JsonNode
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.simulated.chain import RULES
from policy.keeping.chain_market import ChainMarket
from policy.localnet.faults import Fault, FaultKind
from tests.execution.node_fuzz import ABSURD, ODD, damaged, fuzz

WORD = "f" * 64


@pytest.mark.chain
def test_a_few_damaged_answers_of_every_kind(vaultnet, tmp_path):
    tally = fuzz(vaultnet, tmp_path, 24, seed=7, kinds=("reference",))
    assert tally.answers >= 24
    assert not tally.wrong


@pytest.mark.chain
def test_a_few_damaged_answers_of_a_keepers_blocks(vaultnet, tmp_path):
    tally = fuzz(vaultnet, tmp_path, 10, seed=9, kinds=("keeper",))
    assert tally.answers >= 10
    assert not tally.wrong


@pytest.mark.chain
def test_what_a_node_said_wrong_once_is_not_kept_for_ever(vaultnet):
    net = vaultnet
    vault = ReferenceVault(Rpc(net.url, tries=1), net.world.extras["vault"])
    net.faults.add(Fault(FaultKind.WRONG_CHAIN))
    assert vault.snapshot().chain_id == 1_337_999
    assert [vault.snapshot().chain_id for _ in range(3)] == [net.chain_id] * 3
    net.faults.add(Fault(FaultKind.WRONG_CHAIN))
    assert vault.snapshot().chain_id == net.chain_id  # confirmed: not asked for again


@pytest.mark.parametrize("odd", [*ODD, *ABSURD, "0x" + "g" * 128, "0x" + "1" * 127], ids=str)
def test_a_feed_that_answers_nonsense_is_a_block_without_a_look(odd):
    fees = {"gasUsedRatio": [0.5], "baseFeePerGas": ["0x1", "0x2"], "reward": [["0x1"]]}
    answers = {"eth_getLogs": lambda *_: [], "eth_call": lambda *_: odd, "eth_feeHistory": lambda *_: fees}
    node = Rpc("https://a.example", transport=FakeTransport(answers), tries=1)
    market = ChainMarket(node, JsonNode(node), [], RULES)
    market._decimals["0x" + "11" * 20] = 8
    try:
        found = market.changes(SimpleNamespace(hash="0x" + "ab" * 32, number=5))
    except RpcError:
        return
    assert all(p > 0 for p in found.prices.values())


def test_damage_is_always_something_else():
    rng = random.Random(1)
    sound = {"number": "0x10", "hash": "0x" + "ab" * 32, "rows": [{"status": "0x1"}, "0x" + "01" * 96], "flag": True}
    made = [damaged(rng, sound) for _ in range(400)]
    assert sum(m != sound for m in made) > 390
    assert sound["rows"][0] == {"status": "0x1"}, "the sound answer is left alone"
    assert {type(m) for m in made} >= {dict, list, str, type(None), int}


@pytest.mark.parametrize(
    "returns", ["uint256[]", "string", "(address,uint256)[]", "bytes", "int56[]", "address,bool", "uint8"]
)
@pytest.mark.parametrize(
    "body", [WORD, WORD * 2, "0" * 63 + "2" + WORD, "0" * 62 + "20" + WORD, "0" * 62 + "20" + "7" + "f" * 63]
)
def test_absurd_offsets_and_lengths_of_contract_answers_are_errors_or_values(returns, body):
    node = Rpc("https://a.example", transport=FakeTransport({"eth_call": "0x" + body}), sleep=lambda _: None)
    told = try_read(node, [Call("0x" + "22" * 20, "f()", returns)])[0]
    assert isinstance(told, tuple) or "which is not" in str(told)


@pytest.mark.parametrize("odd", [*ODD, *ABSURD], ids=range(len(ODD) + len(ABSURD)))
def test_every_read_of_a_node_survives_every_odd_answer(odd):
    from policy.execution.submission.node import JsonNode

    def node(method: str) -> JsonNode:
        return JsonNode(Rpc("https://a.example", transport=FakeTransport({method: lambda *_: odd}), tries=1))

    for method, ask in {
        "eth_chainId": lambda n: n.chain_id(),
        "eth_getBlockByNumber": lambda n: (n.head(), n.block_hash(1)),
        "eth_getTransactionCount": lambda n: n.account_nonce("0x"),
        "eth_getBalance": lambda n: n.balance("0x"),
        "eth_feeHistory": lambda n: n.fee_history(3),
        "eth_getTransactionReceipt": lambda n: n.receipt("0x" + "ab" * 32),
        "eth_getTransactionByHash": lambda n: n.knows("0x" + "ab" * 32),
    }.items():
        try:
            ask(node(method))
        except RpcError:
            continue

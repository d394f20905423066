"""Logs that are remembered: whatever the chain did between two looks, the answer is that of a full scan."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import RpcError
from policy.execution.bridges.events import logs_between
from policy.execution.bridges.log_memory import MARKS, LogMemory

EMITTERS = ("0x" + "a1" * 20, "0x" + "b2" * 20)
TOPICS = ("0x" + "01" * 32, "0x" + "02" * 32)
AGAIN = 3


def header(number: int, name: str, time: int) -> dict:
    return {
        "hash": name, "number": hex(number), "timestamp": hex(time), "parentHash": "0x" + "0" * 64, "gasUsed": "0x0",
        "gasLimit": "0x1c9c380", "baseFeePerGas": "0x1",
    }  # fmt: skip


class ChainOfLogs:
    """A node over blocks that hold logs; ``asked`` are the first blocks of every scan."""

    def __init__(self) -> None:
        self.blocks: list[list[dict]] = []
        self.hashes: list[str] = []
        self.made = 0
        self.asked: list[int] = []
        self.meanwhile: list = []

    def mine(self, kinds) -> None:
        number, self.made = len(self.blocks), self.made + 1
        name = f"0x{self.made:064x}"
        logs = []
        for n, (who, what) in enumerate(kinds):
            logs.append({
                "address": EMITTERS[who], "topics": [TOPICS[what]], "data": "0x", "blockNumber": hex(number),
                "blockHash": name, "transactionHash": f"0x{1_000 * self.made + n:064x}", "logIndex": hex(n),
            })  # fmt: skip
        self.blocks.append(logs)
        self.hashes.append(name)

    def drop(self, depth: int) -> None:
        keep = max(1, len(self.blocks) - depth)
        del self.blocks[keep:], self.hashes[keep:]

    def call(self, method: str, params: list):
        if method == "eth_getBlockByNumber":
            number = int(params[0], 16)
            if not 0 <= number < len(self.blocks):
                return None
            return header(number, self.hashes[number], 12 * number)
        assert method == "eth_getLogs"
        ask = params[0]
        first, last = int(ask["fromBlock"], 16), int(ask["toBlock"], 16)
        self.asked.append(first)
        found = [
            dict(log)
            for block in self.blocks[first : last + 1]
            for log in block
            if log["address"] == ask["address"] and (not ask["topics"] or log["topics"][0] == ask["topics"][0])
        ]
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return found


def same(memory: LogMemory, node: ChainOfLogs, last: int) -> None:
    for emitter in EMITTERS:
        for topics in ([], [TOPICS[0]]):
            assert memory.logs(node, emitter, topics, last) == logs_between(node, emitter, topics, 0, last)


KINDS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=2)
STEP = st.one_of(
    st.tuples(st.just("mine"), st.lists(KINDS, min_size=1, max_size=9)),
    st.tuples(st.just("reorg"), st.integers(1, 12), st.lists(KINDS, min_size=1, max_size=12)),
    st.tuples(st.just("look"), st.integers(0, 8)),
    st.tuples(st.just("again")),
)  # fmt: skip


@given(st.lists(STEP, min_size=4, max_size=24))
@settings(max_examples=150, deadline=None)
def test_every_look_is_a_full_scan_whatever_the_chain_did_between(tmp_path_factory, steps):
    path = tmp_path_factory.getbasetemp() / "logs.json"
    path.unlink(missing_ok=True)
    node, memory = ChainOfLogs(), LogMemory(path, AGAIN)
    node.mine([(0, 0)])
    for step in steps:
        if step[0] == "mine":
            for kinds in step[1]:
                node.mine(kinds)
        elif step[0] == "reorg":
            node.drop(step[1])
            for kinds in step[2]:
                node.mine(kinds)
        elif step[0] == "look":
            same(memory, node, max(0, len(node.blocks) - 1 - step[1]))
        else:
            memory = LogMemory(path, AGAIN)
    same(memory, node, len(node.blocks) - 1)


def grown(blocks: int = 60) -> ChainOfLogs:
    node = ChainOfLogs()
    for n in range(blocks):
        node.mine([(0, 0)] if n % 3 == 0 else [])
    return node


def test_old_blocks_are_read_once_and_the_newest_at_every_look(tmp_path):
    node, memory = grown(), LogMemory(tmp_path / "logs.json", AGAIN)
    for _ in range(20):
        memory.logs(node, EMITTERS[0], [], len(node.blocks) - 1)
        node.mine([(0, 0)])
        memory = LogMemory(tmp_path / "logs.json", AGAIN)
    assert node.asked[0] == 0
    assert node.asked[1:] == [len(node.blocks) - 21 + n - AGAIN + 1 for n in range(19)]
    body = json.loads((tmp_path / "logs.json").read_text())
    [scan] = body["scans"].values()
    assert len(scan["marks"]) <= MARKS
    assert all(log["blockNumber"] <= scan["marks"][-1][0] for log in scan["logs"])


def test_a_deep_reorganisation_goes_back_to_the_last_mark_the_chain_still_has():
    node, memory = grown(), LogMemory(again=AGAIN)
    for last in (20, 30, 40, 50):
        memory.logs(node, EMITTERS[0], [], last)
    node.drop(25)  # down to block 34: the marks at 37 and 47 are gone
    for _ in range(30):
        node.mine([(0, 1)])
    node.asked.clear()
    assert memory.logs(node, EMITTERS[0], [], 60) == logs_between(node, EMITTERS[0], [], 0, 60)
    assert node.asked[0] == 28, "the mark at block 27 stands"
    node.drop(len(node.blocks) - 1)
    for _ in range(80):
        node.mine([(0, 1)])
    node.asked.clear()
    memory.logs(node, EMITTERS[0], [], 70)
    assert node.asked == [0]


def test_a_chain_that_moves_during_the_look_is_looked_at_again_and_nothing_wrong_is_kept():
    node, memory = grown(), LogMemory(again=AGAIN)

    def moves():
        node.drop(10)
        for _ in range(10):
            node.mine([(0, 1)])

    node.meanwhile = [moves]
    assert memory.logs(node, EMITTERS[0], [], 58) == logs_between(node, EMITTERS[0], [], 0, 58)
    node.meanwhile = [moves] * 3
    with pytest.raises(RpcError, match="changed while"):
        memory.logs(node, EMITTERS[0], [], 58)
    assert memory.logs(node, EMITTERS[0], [], 58) == logs_between(node, EMITTERS[0], [], 0, 58)


def test_a_block_the_node_does_not_have_is_an_error_and_never_an_empty_answer():
    node, memory = grown(), LogMemory(again=AGAIN)
    with pytest.raises(RpcError):
        memory.logs(node, EMITTERS[0], [], 99)
    assert not memory.remembers


@pytest.mark.parametrize("text", ["", "{", '{"version": 9}', '{"version": 1, "scans": [1], "times": {}}', "[]"])
def test_a_torn_or_foreign_file_is_a_scan_that_begins_anew(tmp_path, text):
    path = tmp_path / "logs.json"
    path.write_text(text)
    node, memory = grown(), LogMemory(path, AGAIN)
    same(memory, node, 59)
    memory.forget()
    assert json.loads(path.read_text())["scans"] == {}


def test_a_memory_that_cannot_be_kept_makes_no_folder_and_no_look_fails(tmp_path):
    nowhere, taken = tmp_path / "gone" / "logs.json", tmp_path / "taken.json"
    taken.mkdir()
    for path in (nowhere, taken):
        node = grown()
        memory = LogMemory(again=AGAIN)
        memory.path = path
        same(memory, node, 59)
        same(memory, node, 59)
    assert not nowhere.parent.exists()
    assert list(taken.iterdir()) == []


def test_the_time_of_a_block_is_read_once():
    node, memory = grown(), LogMemory(again=AGAIN)
    wanted = node.hashes[5]
    asked = []

    class ByHash:
        def call(self, method, params):
            asked.append(method)
            return header(5, wanted, 60)

    assert [memory.time_of(ByHash(), wanted) for _ in range(3)] == [60, 60, 60]
    assert len(asked) == 1

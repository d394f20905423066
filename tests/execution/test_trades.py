"""The audit held against a vault's own events, in both directions, on events as they are and on planted ones."""

from __future__ import annotations

import itertools

import pytest

from lake.errors import RpcError
from policy.execution.engine import step
from policy.execution.vaults.anchored import Known, known, untold
from policy.execution.vaults.reference.history import at_block, holdings, since_creation
from policy.execution.vaults.scan import first_block_at, place, scan_logs
from policy.execution.vaults.trades import Disagreement, Trade, disagreements, reference_trades
from tests.chain_fixtures import into_the_hour
from tests.execution.chain_kit import USD, landed, sealed, v3_leg
from tests.execution.chainlab import MANDATE, TARGETS, chain_context

SPAN = (0, 1_000)


def record(nonce: int, outcome: str = "landed", block: int | None = None, landed_in: int | None = None) -> Known:
    return Known(nonce, nonce, f"0x{nonce:064x}", 10 * nonce if block is None else block, outcome, landed_in)


def event(nonce: int, block: int | None = None, *, traded: bool = True, tx: str = "") -> Trade:
    return Trade(10 * nonce + 1 if block is None else block, 0, tx or f"0xt{nonce}", f"0x{nonce:064x}", nonce, traded)


def kinds(found: list[Disagreement]) -> list[tuple[str, str]]:
    return [(d.kind, d.plan_hash[-2:]) for d in found]


def test_records_and_events_that_agree_have_no_disagreement():
    plans = [record(n) for n in range(6)] + [record(7, "void"), record(8, "expired"), record(9, "")]
    events = [event(n) for n in range(6)] + [event(8, traded=False)]
    assert disagreements(plans, events, *SPAN) == []


@pytest.mark.parametrize("gone", range(6))
def test_each_missing_side_is_named_and_nothing_else(gone):
    plans, events = [record(n) for n in range(6)], [event(n) for n in range(6)]
    without = [e for e in events if e.nonce != gone]
    assert kinds(disagreements(plans, without, *SPAN)) == [("no_event", f"{gone:02x}")]
    unknown = [p for p in plans if p.nonce != gone]
    (found,) = disagreements(unknown, events, *SPAN)
    assert (found.kind, found.tx_hash, found.block) == ("no_record", f"0xt{gone}", 10 * gone + 1)
    assert found.tx_hash in found.words
    assert str(found.block) in found.words


def test_what_the_record_says_otherwise_is_named():
    cases = {
        "void": "otherwise", "reverted": "otherwise", "expired": "otherwise", "disarmed": "otherwise",
        "": "unsettled", "landed": None, "filled": None,
    }  # fmt: skip
    for outcome, kind in cases.items():
        found = disagreements([record(1, outcome)], [event(1)], *SPAN)
        assert [d.kind for d in found] == ([kind] if kind else []), outcome
    assert kinds(disagreements([record(1, landed_in=11)], [event(1)], *SPAN)) == []
    assert kinds(disagreements([record(1, landed_in=12)], [event(1)], *SPAN)) == [("otherwise", "01")]


def test_a_plan_that_traded_twice_is_named_once():
    twice = [event(1), event(1, 15, tx="0xagain")]
    (found,) = disagreements([record(1)], twice, *SPAN)
    assert (found.kind, found.tx_hash) == ("twice", "0xagain")


def test_trades_without_a_plan_are_each_named():
    bare = [Trade(5, 1, "0xa", ""), Trade(6, 0, "0xb", "")]
    assert [d.tx_hash for d in disagreements([record(1)], [*bare, event(1)], *SPAN)] == ["0xa", "0xb"]


def test_every_block_belongs_to_one_of_two_neighbouring_periods():
    """A disagreement of the whole is found in exactly one of the two parts it is split into, wherever that is."""
    plans = [record(n) for n in range(0, 10, 2)] + [record(11), record(13, "void"), record(15, "")]
    events = [event(n) for n in (0, 2, 3, 5, 8, 13, 15)]
    whole = kinds(disagreements(plans, events, *SPAN))
    assert len(whole) == 7
    for cut in range(0, 200, 3):
        parts = disagreements(plans, events, 0, cut - 1) + disagreements(plans, events, cut, 1_000)
        assert sorted(kinds(parts)) == sorted(whole), cut


class Bounded:
    """A node that gives the logs of at most ``most`` blocks at a time."""

    def __init__(self, logs, most):
        self.logs, self.most, self.asked = logs, most, []

    def call(self, method, params):
        assert method == "eth_getLogs"
        first, last = (int(params[0][k], 16) for k in ("fromBlock", "toBlock"))
        self.asked.append((first, last))
        if last - first + 1 > self.most:
            raise RpcError("query returned more than 10000 results", -32005)
        return [log for log in self.logs if first <= int(log["blockNumber"], 16) <= last]


def log_at(block: int, index: int) -> dict[str, object]:
    word = "0x" + "11" * 32
    return {
        "address": "0x" + "22" * 20, "topics": [word], "data": "0x", "blockNumber": hex(block), "blockHash": word,
        "transactionHash": word, "transactionIndex": "0x0", "logIndex": hex(index), "removed": False,
    }  # fmt: skip


@pytest.mark.parametrize("most", [10, 17, 100, 999, 10**6])
def test_logs_are_the_same_whatever_a_node_gives_at_once(most):
    logs = [log_at(b, i) for b, i in itertools.product((0, 1, 99, 100, 5_000, 5_001), (3, 0))]
    node = Bounded(logs, most)
    found = scan_logs(node, "0x" + "22" * 20, [], 0, 5_001)
    assert [place(x) for x in found] == sorted((int(x["blockNumber"], 16), int(x["logIndex"], 16)) for x in logs)
    given = [(a, b) for a, b in node.asked if b - a + 1 <= most]
    assert [a for a, _ in given[1:]] == [b + 1 for _, b in given[:-1]]  # no block is asked for twice, none is left out
    assert (given[0][0], given[-1][1]) == (0, 5_001)


def test_a_node_that_gives_next_to_nothing_is_an_error_not_an_empty_answer():
    with pytest.raises(RpcError):
        scan_logs(Bounded([], 3), "0x" + "22" * 20, [], 0, 5_000)


@pytest.mark.chain
def test_a_real_vault_agrees_until_something_is_planted(vaultnet, tmp_path):
    into_the_hour(vaultnet, 60)
    ctx = chain_context(tmp_path, vaultnet)
    first, vault = vaultnet.node.head().number, ctx.vault_address
    sold = sealed(ctx.vault, vault, [v3_leg(vaultnet, vault, "v3:ETH/USDC:500", "USDC", 1_000 * USD)])
    tx = ctx.vault.build(sold)
    receipt = landed(vaultnet, "keeper", tx.to, tx.data)
    assert receipt.status == 1
    vaultnet.mine(seconds=60)
    assert step(ctx).outcome == "traded"
    plans = known(ctx.audit.records(), vaultnet.chain_id, vault)
    trades, head = reference_trades(vaultnet.rpc, vault), vaultnet.node.head().number
    assert [t.plan_hash for t in trades(first, head)] == ["0x" + sold.plan_hash.hex(), plans[0].plan_hash]
    (found,) = disagreements(plans, trades(first, head), first, head)
    assert (found.kind, found.tx_hash, found.block) == ("no_record", receipt.tx_hash, receipt.block_number)
    assert found.plan_hash == "0x" + sold.plan_hash.hex()
    assert disagreements(plans, trades(first, head), receipt.block_number + 1, head) == []


@pytest.mark.chain
def test_what_is_in_force_is_folded_from_the_events_as_the_vault_says_it(vaultnet):
    vault = vaultnet.world.extras["vault"]
    logs = since_creation(vaultnet.rpc, vault, vaultnet.node.head().number)
    now, who = at_block(logs, vaultnet.node.head().number), vaultnet.accounts
    assert (now.owner, now.keeper, now.guardian) == tuple(who[r].address for r in ("owner", "keeper", "guardian"))
    assert now.targets_bps == tuple(TARGETS.values())
    assert now.mandate[0] == MANDATE.leg_loss_bps
    assert len(now.calls) == 3
    assert not now.permissioned
    assert holdings(logs, now.targets_bps[0] + 10**9).keys() == {who["investor"].address}
    assert at_block(logs, logs[0].block - 1).owner == ""


@pytest.mark.chain
def test_the_first_block_of_a_moment_is_the_one_by_the_clock(vaultnet):
    head = vaultnet.node.head()
    assert first_block_at(vaultnet.rpc, head.time, head.number) == head.number
    assert first_block_at(vaultnet.rpc, head.time + 1, head.number) == head.number + 1
    assert first_block_at(vaultnet.rpc, head.time - 1, head.number) in {head.number, head.number - 1}
    assert first_block_at(vaultnet.rpc, 0, head.number) == 0


def look(nonce: int, block: int, plan: int | None = None, vault: str = "0xV") -> dict[str, object]:
    body: dict[str, object] = {"event": "refusal", "vault": vault, "live": True, "plan": None}
    body["snapshot"] = {"chain_id": 1, "block_number": block, "plan_nonce": nonce}
    return body if plan is None else {**body, "event": "decision", "plan": {"nonce": plan}}


def test_two_looks_in_a_row_tell_of_a_plan_between_them_that_nobody_recorded():
    own = [look(0, 10), look(0, 20, plan=0), look(1, 30)]
    assert untold(own, 1, "0xv") == []
    (found,) = untold([*own, look(2, 40)], 1, "0xv")
    assert "plan 1 was executed between blocks 30 and 40" in found
    assert len(untold([*own, look(4, 40)], 1, "0xv")) == 3
    assert untold([*own, look(2, 40), look(2, 50)], 1, "0xv") == []  # told once, at the look that saw it
    assert untold([*own, look(2, 40, vault="0xother")], 1, "0xv") == []
    assert untold([*own, look(2, 40)], 10, "0xv") == []
    assert untold([], 1, "0xv") == []
    assert untold([look(0, 1), {"event": "lost", "reason": "x"}, {**look(0, 2), "snapshot": None}], 1, "0xv") == []

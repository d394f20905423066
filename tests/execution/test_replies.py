"""A node's answer to a send is acted on at the first look: what no node holds is not bumped, nothing is hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lake.errors import RpcError
from policy.execution.context import Limits
from policy.execution.engine import step
from policy.execution.submission.channels import Reply, classify
from policy.execution.submission.gas import Bid, raised
from policy.execution.submission.signer import TxRequest
from policy.execution.vaults.simulated.chain import SimChannel, SimSigner
from policy.localnet.faults import Fault, FaultKind
from tests.execution.chainlab import chain_context
from tests.execution.simlab import KEEPER, chain, context

IN_FLIGHT = "in-flight transaction limit reached for delegated accounts"
NOT_HELD = [
    IN_FLIGHT,
    "gapped-nonce tx from delegated accounts",
    "address already reserved",
    "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1",
    "InsufficientFunds, Account balance: 0",
    "Upfront cost exceeds account balance",
    "txpool is full",
    "exceeds block gas limit",
    "sender not an eoa: address 0x12, codehash: 0x34",
    "intrinsic gas too low: gas 1, minimum needed 21000",
    "tx fee (2.00 ether) exceeds the configured cap (1.00 ether)",
    "max fee per gas less than block base fee: address 0x, maxFeePerGas: 1, baseFee: 2",
    "sender not allowed",
    "limit exceeded",
]
HELD = ["already known", "AlreadyKnown", "Known transaction", "ALREADY KNOWN: 0xab"]
OUTBID = [
    "replacement transaction underpriced",
    "transaction underpriced: tip needed 5",
    "FeeTooLow, MaxFeePerGas too low",
]
GONE = ["nonce too low: next nonce 5, tx nonce 4", "OldNonce, Current nonce: 5", "Nonce below sender account nonce"]


class Refusing:
    """A pool that refuses the next ``left`` sends with ``words``; what it never took it does not know."""

    def __init__(self, pool, words: str, left: int, code: int = -32000) -> None:
        self.pool, self.words, self.left, self.code, self.asked = pool, words, left, code, []

    def send_raw(self, raw: bytes) -> str:
        self.asked.append(raw)
        if self.left > 0:
            self.left -= 1
            raise RpcError(self.words, self.code)
        return self.pool.send_raw(raw)

    def send_private(self, raw: bytes, max_block: int | None = None) -> str:
        return self.pool.send_private(raw, max_block)


@pytest.mark.parametrize(
    ("words", "taken"), [(w, False) for w in (*NOT_HELD, *OUTBID, *GONE)] + [(w, True) for w in HELD]
)
def test_words_of_nodes_are_understood(words, taken):
    reply = classify(RpcError(words, -32000))
    assert reply.taken is taken
    assert words in reply.text
    assert reply.outbid is (words in OUTBID)
    assert classify(RpcError(words)).taken is None, "without an answer nobody knows"
    assert Reply(True, "already known").known


@pytest.mark.parametrize("words", NOT_HELD)
def test_what_no_node_holds_is_offered_again_as_it_is_and_never_bumped(tmp_path, words):
    sim = chain()
    pool = Refusing(sim, words, left=8)
    report = step(context(tmp_path, sim, channels={"public": SimChannel(pool)}))
    assert report.outcome == "traded"
    assert len(report.attempts) == 1, "one signature only"
    assert len(set(pool.asked)) == 1
    assert len(pool.asked) == 9
    assert sim.executions == 1


@pytest.mark.parametrize("words", [IN_FLIGHT, "insufficient funds for gas * price + value", "txpool is full"])
def test_a_refusal_that_lasts_is_shown_and_ends_with_the_deadline(tmp_path, words):
    sim = chain()
    pool = Refusing(sim, words, left=10**6)
    pending = step(context(tmp_path, sim, channels={"public": SimChannel(pool)}, limits=Limits(watch_blocks=5)))
    assert pending.outcome == "pending"
    assert words in pending.why
    assert words in pending.attempts[0]["reply"]
    assert pending.attempts[0]["taken"] is False
    assert [v.reason for v in pending.verdicts if v.check == "pending"] == [pending.why]
    again = step(context(tmp_path, sim, channels={"public": SimChannel(pool)}, limits=Limits(watch_blocks=5)))
    assert (again.outcome, len(again.attempts)) == ("pending", 1)
    assert words in again.why
    sim.mine(skip_s=900)
    pool.left = 0
    later = step(context(tmp_path, sim, channels={"public": SimChannel(pool)}))
    assert later.recovered == "void"
    assert sim.executions <= 1
    flights = context(tmp_path, sim).journal.flights()
    assert words in flights[0].note
    assert len(flights[0].attempts) == 1


def test_a_nonce_used_elsewhere_closes_the_plan_at_once(tmp_path):
    sim = chain()
    pool = Refusing(sim, "nonce too low: next nonce 1, tx nonce 0", left=10**6)
    signer = SimSigner(KEEPER)

    def elsewhere(name: str) -> None:
        if name == "send":  # another program spends the nonce with the same key
            fee = sim.head().base_fee_wei * 4
            raw = signer.sign(TxRequest(31_337, KEEPER, b"", 0, sim.account_nonce(KEEPER), 21_000, fee, fee)).raw
            if sim.account_nonce(KEEPER) == 0 and not sim.public:
                sim.send_raw(raw)

    channels = {"public": SimChannel(pool)}
    report = step(context(tmp_path, sim, channels=channels, checkpoint=elsewhere, limits=Limits(watch_blocks=10)))
    assert report.outcome == "void"
    assert "account nonce 0" in report.why
    assert "used by another transaction" in report.why
    assert "nonce too low: next nonce 1" in report.why
    assert len(report.attempts) == 1
    assert sim.head().number <= 100 + 6, "long before its deadline"
    pool.left = 0
    assert step(context(tmp_path, sim)).outcome == "traded"
    assert sim.executions == 1


@pytest.mark.chain
def test_a_node_that_denies_the_receipt_of_a_landed_plan_does_not_make_it_void(tmp_path, vaultnet):
    deny = Fault(FaultKind.LYING, ("eth_getTransactionReceipt",), times=None, change=lambda m, p, r: None)
    vaultnet.faults.add(deny)
    few = replace(chain_context(tmp_path, vaultnet).limits, watch_blocks=6)
    assert step(chain_context(tmp_path, vaultnet, limits=few)).outcome == "pending"
    vaultnet.faults.clear()
    assert step(chain_context(tmp_path, vaultnet)).recovered == "landed"
    assert chain_context(tmp_path, vaultnet).vault.snapshot().plan_nonce == 1


def test_a_replacement_that_is_refused_outbids_what_is_ours_only(tmp_path):
    sim = chain()
    pool = Refusing(sim, "replacement transaction underpriced", left=10**6)
    foreign = step(
        context(tmp_path / "foreign", sim, channels={"public": SimChannel(pool)}, limits=Limits(watch_blocks=9))
    )
    assert foreign.outcome == "pending"
    assert len(foreign.attempts) == 1
    sim = chain()
    slow = context(tmp_path / "own", sim, limits=Limits(watch_blocks=12, bump_after=2))
    bids = []

    def wait(head) -> None:
        sim.mine(include=len(bids) >= 3)
        bids[:] = [Bid(a.max_fee_wei, a.tip_wei) for a in slow.journal.last().attempts]

    report = step(replace(slow, wait=wait))
    assert report.outcome == "traded"
    assert len(bids) >= 3
    assert all(raised(a.max_fee_wei) <= b.max_fee_wei for a, b in zip(bids, bids[1:], strict=False))


def test_a_follow_that_ends_open_carries_its_last_error(tmp_path):
    sim = chain()

    class Broken:
        def __getattr__(self, name):
            return getattr(sim, name)

        def receipt(self, tx_hash):
            raise RpcError("missing trie node 0xabc (path ) state is not available")

    report = step(context(tmp_path, Broken(), sim, limits=Limits(watch_blocks=3)))
    assert report.outcome == "pending"
    assert "the last look failed: missing trie node 0xabc" in report.why
    assert step(context(tmp_path, sim)).recovered == "landed"


@pytest.mark.chain
def test_a_real_node_that_refuses_is_asked_again_with_the_same_bytes(tmp_path, vaultnet):
    fault = vaultnet.faults.add(
        Fault(FaultKind.ERROR, ("eth_sendRawTransaction",), times=6, code=-32000, message=IN_FLIGHT)
    )
    report = step(chain_context(tmp_path, vaultnet))
    assert report.outcome == "traded"
    assert fault.struck == 6
    assert len(report.attempts) == 1

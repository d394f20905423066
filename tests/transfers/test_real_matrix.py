"""A seeded part of the matrix over two local chains (`make matrix-real`: the whole), and what moved the cash there."""

from __future__ import annotations

import pytest

from lake.evm import calldata
from policy.execution.transfers.ledger import count
from policy.localnet.bridges import USD
from tests.transfers.matrix import Case, summary
from tests.transfers.real_chains import CctpCase
from tests.transfers.real_matrix import KILLS, NODES, REORGS, SERVICES, WORLDS, RealLab, alone, cases

pytestmark = [pytest.mark.chain, pytest.mark.slow]  # among the first: its file would be the tail of the suite

CHOSEN = (
    Case("cctp", "sent depart", (("no receipt A", 1),), "stranger", ("A", 1, True), (6, 6)),
    Case("cctp", "signed deliver", (("expired", 2),), "plain", ("B", 1, True), (6, 6)),
    Case("across", "departed", (("lost B", 1),), "slow", ("B", 2, True), (6, 6)),
    Case("across", "refunded", (("lag A", 1),), "late refund", ("B", 1, True), (6, 6)),
    Case("oft", "sent deliver", (("equivocating", 1),), "stranger", ("A", 2, False), (6, 6)),
)
"""Kills before and after the departure, silence and useless vouchers, reorganisations of each chain and of a refund."""
SEED, DRAWN, PARTS = 7, 120, 6


def test_no_unit_is_lost_doubled_or_unexplained_over_contracts(pair_session):
    outcomes = [alone(case, pair_session) for case in CHOSEN]
    wrong = [f"{o.case}: {o.words}" for o in outcomes if not o.good]
    assert not wrong, summary(outcomes) + "\n" + "\n".join(wrong)
    assert [o.state for o in outcomes[:4]] == ["settled"] * 4
    assert [o.departures for o in outcomes[:4]] == [1] * 4


@pytest.mark.parametrize("part", range(PARTS))
def test_a_seeded_hundred_and_twenty_over_every_kind_of_bridge(pair_session, part):
    """Long for a test: 20 runs a part, half a second of this process each, are what the claim of none lost rests on."""
    outcomes = [alone(case, pair_session) for case in cases(DRAWN, SEED)[part::PARTS]]
    wrong = [f"{o.case}: {o.words}" for o in outcomes if not o.good]
    assert not wrong, summary(outcomes) + "\n" + "\n".join(wrong)
    assert len(outcomes) == DRAWN // PARTS


def test_the_cases_are_drawn_from_every_kill_fault_world_and_reorganisation():
    drawn = cases(600)
    assert len(set(drawn)) == 600
    assert {c.kill for c in drawn} == set(KILLS)
    for kind, worlds in WORLDS.items():
        mine = [c for c in drawn if c.kind == kind]
        assert len(mine) == 200
        assert {c.world for c in mine} == set(worlds)
        assert {c.fault for c in mine} == {tuple(f.items()) for f in (*NODES, *SERVICES[kind])}
    assert {c.reorg for c in drawn} == set(REORGS)


def test_what_people_trades_and_strangers_moved_explains_the_cash(chain_pair, tmp_path):
    """Deposits, exits and gifts are told apart; what left and what a sister sent is none of them."""
    lab, c = RealLab(chain_pair, tmp_path), CctpCase(chain_pair)
    net, vault, cash = chain_pair.nets[1], c.vaults[1], c.cash
    me = net.accounts["investor"].address
    start = [(m.kind, m.amount) for m in vault.cash_moves(net.node.head().number)]
    assert start == [("deposit", 1_000_000 * USD)]
    transfer = c.transfer()
    c.depart(transfer)
    c.finalize()
    c.arrive(transfer)
    net.send("trader", cash, calldata("transfer(address,uint256)", vault.address, 7 * USD))
    net.mine()
    net.send("investor", vault.address, calldata("deposit(uint256,address)", 11 * USD, me))
    net.mine()
    word = bytes(12) + bytes.fromhex(vault.address[2:])
    near = chain_pair.nets[0]
    near.send("trader", cash, calldata("approve(address,uint256)", c.end(0).messenger, 2**255))
    burn = "depositForBurn(uint256,uint32,bytes32,address,bytes32,uint256,uint32)"
    sent = near.send("trader", c.end(0).messenger, calldata(burn, 3 * USD, 101, word, cash, bytes(32), 0, 2_000))
    c.finalize()
    [gift] = chain_pair.attester.of(100, sent)
    data = calldata("receiveMessage(bytes,bytes)", gift.message, gift.signatures)
    net.send("trader", c.end(1).transmitter, data)
    c.finalize()
    head = net.node.head().number
    moves = [(m.kind, m.amount) for m in vault.cash_moves(head)]
    assert moves == [*start, ("gift", 7 * USD), ("deposit", 11 * USD), ("gift", 3 * USD)]
    held = vault.snapshot().holdings[0]
    assert held == sum(amount for _, amount in moves) + transfer.amount
    here = c.vaults[0].cash_moves(chain_pair.nets[0].node.head().number)
    assert [(m.kind, m.amount) for m in here] == start
    found = count(lab.fresh(live=False, sound=True))
    assert any("no journal knows why" in d for d in found.doubts), "a departure that nobody planned is said"

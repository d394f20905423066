"""The record's head in a plan's hash: asked once, carried by the next executed plan, true while nothing changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lake.errors import DataError
from pipelines.settings import Settings
from pipelines.settlements.audited import audit_anchor
from pipelines.vault_settings import vaults_of
from policy.execution.base import Leg, Simulation
from policy.execution.engine import step
from policy.execution.records.anchors import ANCHOR, MOST_DATA, anchors, ask, carrying, due
from policy.execution.records.audit import Audit, verify
from policy.execution.vaults.anchored import known
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.execution.vaults.trades import reference_trades
from tests.chain_fixtures import into_the_hour
from tests.execution.chainlab import chain_context

AT = datetime(2024, 5, 1, tzinfo=UTC)
WORD = "0x" + "00" * 32


def leg(size: int = 100) -> Leg:
    return Leg("0xa", "0xb", 1, 1, 1, (), "0xr", bytes(range(size % 256)) + bytes(size - size % 256))


def decided(audit: Audit, name: str, tail: bytes = b"", live: bool = True) -> None:
    plan = {"legs": [{"calldata": "0x" + (b"\1\2\3\4" + tail).hex()}]}
    audit.append("decision", {"decision_id": name, "plan": plan, "plan_hash": name, "live": live})


def settled(audit: Audit, name: str, outcome: str) -> None:
    audit.append("settlement", {"decision_id": name, "plan_hash": name, "outcome": outcome})


def test_the_head_is_due_until_an_executed_plan_has_carried_it(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl")
    assert ask(audit, AT) is None  # an empty record has no head
    assert due(audit.records()) == b""
    decided(audit, "first")
    head = bytes.fromhex(audit.records()[-1].hash)
    line = ask(audit, AT)
    assert line is not None
    assert ask(audit, AT) is None  # asked once
    assert due(audit.records()) == head
    for outcome in ("void", "reverted", "expired"):
        decided(audit, outcome, head)
        settled(audit, outcome, outcome)
        assert due(audit.records()) == head, outcome
    decided(audit, "dry", head, live=False)
    decided(audit, "another")  # a plan that does not carry it
    settled(audit, "another", "landed")
    assert due(audit.records()) == head
    decided(audit, "carries", head)
    assert due(audit.records()) == head  # on its way
    settled(audit, "carries", "landed")
    assert due(audit.records()) == b""
    (found,) = anchors(audit.records())
    assert (found.plan_hash, found.true, found.head) == ("carries", True, head.hex())
    assert ask(audit, AT) is not None  # and anew, with the head of now
    assert due(audit.records()) == bytes.fromhex(audit.records()[-2].hash)


def test_a_newer_request_takes_the_place_of_an_older_one(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl")
    decided(audit, "a")
    ask(audit, AT)
    decided(audit, "b")
    newer = ask(audit, AT)
    assert newer is not None
    assert due(audit.records()).hex() == newer.body["head"]
    assert [a.of for a in anchors(audit.records())] == [0, 2]


@pytest.mark.parametrize("size", [4, 100, MOST_DATA - 33, MOST_DATA - 32, MOST_DATA - 31, MOST_DATA])
def test_only_the_last_leg_carries_and_only_where_there_is_room(size):
    head, legs = b"\7" * 32, (leg(), leg(size))
    got = carrying(legs, head)
    if size + 32 > MOST_DATA:
        assert got == legs
    else:
        assert got[0] == legs[0]
        assert got[1] == replace(legs[1], calldata=legs[1].calldata + head)
    assert carrying(legs, b"") == legs
    assert carrying((), head) == ()


def test_a_head_of_a_record_that_was_written_anew_is_not_true(tmp_path):
    audit = Audit(tmp_path / "audit.jsonl")
    decided(audit, "a")
    audit.append(ANCHOR, {"ts": AT.isoformat(), "of": 0, "head": "ab" * 32})
    assert not anchors(audit.records())[0].true
    assert verify(audit.path).ok  # the chain itself is whole: only the anchor tells


def test_nothing_is_anchored_of_an_empty_or_broken_record(tmp_path):
    mine = vaults_of(Settings(root=tmp_path))[0]
    with pytest.raises(DataError, match="empty"):
        audit_anchor(mine)
    audit = Audit(mine.audit)
    decided(audit, "a")
    decided(audit, "b")
    assert audit_anchor(mine)["asked"]["of"] == 1
    assert audit_anchor(mine)["asked"] is None
    mine.audit.write_text(mine.audit.read_text().replace('"live":true', '"live":null', 1))
    with pytest.raises(DataError, match="broken at record 0"):
        audit_anchor(mine)


@pytest.mark.chain
def test_the_next_plan_of_a_real_vault_binds_the_head(vaultnet, tmp_path):
    into_the_hour(vaultnet, 60)
    ctx = chain_context(tmp_path, vaultnet)
    ctx.audit.append("refusal", {"decision_id": "x", "ts": AT.isoformat(), "verdicts": []})
    line = ask(ctx.audit, AT)
    assert line is not None
    head, first = str(line.body["head"]), vaultnet.node.head().number
    report = step(ctx)
    assert report.outcome == "traded", [v for v in report.verdicts if not v.ok]
    assert report.plan.legs[-1].calldata.hex().endswith(head)
    (found,) = anchors(ctx.audit.records())
    (trade,) = reference_trades(vaultnet.rpc, ctx.vault_address)(first, vaultnet.node.head().number)
    assert (
        found.plan_hash
        == trade.plan_hash
        == known(ctx.audit.records(), vaultnet.chain_id, ctx.vault_address)[0].plan_hash
    )
    assert due(ctx.audit.records()) == b""
    sent = vaultnet.rpc.call("eth_getTransactionByHash", [trade.tx_hash])
    assert head in sent["input"]
    legs = [*report.plan.legs[:-1], replace(report.plan.legs[-1], calldata=report.plan.legs[-1].calldata[:-32])]
    other = ctx.vault.seal(replace(report.plan, legs=tuple(legs)))
    assert other.plan_hash != report.plan.plan_hash  # the head is part of what the hash is taken over


class Picky(ReferenceVault):
    """A vault whose routers refuse what follows a call's data."""

    def simulate(self, tx, sender, block="latest"):
        if self.head in tx.data.hex():
            return Simulation(False, 0, {}, "unexpected data")
        return super().simulate(tx, sender, block)


@pytest.mark.chain
def test_what_only_travels_along_never_stops_a_trade(vaultnet, tmp_path):
    into_the_hour(vaultnet, 60)
    vault = Picky(vaultnet.rpc, vaultnet.world.extras["vault"])
    ctx = chain_context(tmp_path, vaultnet, vault=vault)
    ctx.audit.append("refusal", {"decision_id": "x", "ts": AT.isoformat(), "verdicts": []})
    line = ask(ctx.audit, AT)
    assert line is not None
    vault.head = str(line.body["head"])
    report = step(ctx)
    assert report.outcome == "traded", [v for v in report.verdicts if not v.ok]
    assert [v.check for v in report.verdicts].count("anchor") == 1
    assert due(ctx.audit.records()).hex() == vault.head  # and stays due

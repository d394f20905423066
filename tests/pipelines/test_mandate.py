"""The evidence of a month on a local chain: the same bytes anywhere, and everything that was planted is found."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lake.errors import ConfigError, DataError
from lake.evm import calldata
from lake.tables import table
from pipelines.demo.rehearsal import lived
from pipelines.deployments import deployment
from pipelines.reports.mandate_page import files_of
from pipelines.settlements.audited import audit_verify
from pipelines.settlements.mandate.evidence import WORDS
from pipelines.settlements.mandate.frames import COLUMNS
from pipelines.stages.mandate import evidence_of
from pipelines.wiring import lake_of
from policy.execution.records.anchors import ask
from policy.execution.records.audit import Audit, head_path
from policy.execution.records.hashlog import digest
from policy.execution.vaults.reference.adapter import ReferenceVault
from tests.execution.chain_kit import landed, sealed, v3_leg
from tests.pipelines.market import project

pytestmark = pytest.mark.chain
DAYS, ASKED, PLANTED, ANNOUNCED, CHANGED = 30, 2, 5, 11, 12
NEW_TARGETS = [3_000, 4_000, 3_000]
EXTRA = """
[mandate]
min_trade_usd = 1
max_turnover_bps = 10_000
[vault]
start = [0.45, 0.3, 0.25]
[schedule]
rebalance = "6 0 * * *"
"""


def planted(net, local):
    """The keeper's key trades by itself, nobody records it."""
    vault = ReferenceVault(net.rpc, local.vault.address)
    held = vault.snapshot()
    most = max(range(3), key=lambda i: held.holdings[i] * held.quotes[i].price_e8 / 10 ** held.tokens[i].decimals)
    sell, pool = [("BTC", "v3:BTC/ETH:3000"), ("ETH", "v3:BTC/ETH:3000"), ("LINK", "v3:LINK/ETH:3000")][most]
    leg = v3_leg(net, local.vault.address, pool, sell, held.holdings[most] // 1_000)
    tx = vault.build(sealed(vault, local.vault.address, [leg]))
    return landed(net, "keeper", tx.to, tx.data)


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    """The month while its chain is there, and what was done to it by hand."""
    own = deployment(project(tmp_path_factory.mktemp("own"), EXTRA))
    done, outcomes, change = {}, [], calldata("set_targets(uint256[])", NEW_TARGETS)

    def before(net, local, at):
        day, vault = len(outcomes), local.vault.address
        if day == PLANTED:
            done["theft"] = planted(net, local)
        if day == ASKED:
            done["anchor"] = ask(Audit(local.audit), at)
        if day == ANNOUNCED:
            done["announced"] = landed(net, "owner", vault, calldata("schedule(bytes)", change))
        if day == CHANGED:
            done["changed"] = landed(net, "owner", vault, calldata("execute(bytes)", change))

    with lived(own, DAYS, lambda i, n, outcome: outcomes.append(outcome), before) as it:
        yield it, done, outcomes


def test_the_anchored_head_is_bound_by_a_plan_of_the_month_and_a_rewritten_record_shows(month, tmp_path):
    it, done, _ = month
    (row,) = it.evidence().tables["anchors"].iter_rows(named=True)
    assert (row["head"], row["state"]) == (done["anchor"].body["head"], "bound")
    settled = it.evidence().tables["settlements"].filter(pl.col("plan_hash") == row["plan_hash"])
    assert (settled["block"][0], settled["tx_hash"][0]) == (row["block"], row["tx_hash"])
    raw = it.net.rpc.call("eth_getTransactionByHash", [row["tx_hash"]])
    assert row["head"] in raw["input"]
    copy = elsewhere(it.local, tmp_path / "anew")
    rewritten(copy, lambda rows: rows[0]["body"].update(why="nothing happened"))
    assert audit_verify(copy)["ok"] is False  # the planted trade; the hashes themselves are whole again
    assert ("anchor", "") in found(evidence_of(copy, it.begin, it.end))


def elsewhere(local, folder):
    """Another person's project: a copy of lake and audit record, nothing else."""
    shutil.copytree(local.root / "lake", folder / "lake")
    for name in ("audit.jsonl", "audit.jsonl.head"):
        shutil.copy(local.root / name, folder / name)
    return replace(local, root=folder)


def found(evidence):
    return [(r["kind"], r["tx_hash"] or r["subject"]) for r in evidence.tables["findings"].iter_rows(named=True)]


def test_a_month_is_told_whole_and_the_planted_trade_alone_is_wrong(month):
    it, done, outcomes = month
    evidence = it.evidence()
    tables, figures = evidence.tables, evidence.head["figures"]
    assert set(tables) == set(COLUMNS)
    assert tables["decisions"].height == len(outcomes) >= 29
    assert figures["replayed_same"] == len(outcomes)
    assert tables["decisions"]["digest_again"].all()
    assert figures["traded"] == outcomes.count("traded") > 0
    assert done["theft"].status == 1
    assert found(evidence) == [("no_record", done["theft"].tx_hash)]
    assert evidence.faults == 1
    assert done["theft"].tx_hash in tables["findings"]["words"][0]
    settled = tables["settlements"].filter(pl.col("outcome") == "landed")
    assert settled["loss_ppb"].null_count() == 0
    assert set(settled["plan_hash"]) == set(tables["fills"]["plan_hash"])
    fills = tables["fills"].with_columns(pl.col("actual", "at_least").cast(pl.Int128))
    assert (fills["actual"] >= fills["at_least"]).all()


def test_versions_name_the_change_who_made_it_and_who_announced_it(month):
    it, done, _ = month
    tables = it.evidence().tables
    first, second = tables["versions"].sort("number").iter_rows(named=True)
    owner = it.net.accounts["owner"].address.lower()
    assert (second["changed"], second["by"].lower()) == ("targets_bps", owner)
    assert (second["tx_hash"], second["announced_tx"]) == (done["changed"].tx_hash, done["announced"].tx_hash)
    assert (first["until"], second["until"]) == (second["since"], None)
    assert first["hash"] != second["hash"]
    assert json.loads(second["content"])["targets_bps"] == NEW_TARGETS
    events = tables["actions"].filter(pl.col("block").is_not_null())["event"].to_list()
    assert events == ["Scheduled", "TargetsSet", "Executed"]
    assert {r["at_end"] for r in tables["roles"].iter_rows(named=True) if r["role"] == "owner"} == {
        it.net.accounts["owner"].address
    }
    assert not tables["roles"]["changed"].any()
    assert tables["terms"].height == 2  # decisions saw the targets before and after


def test_the_time_outside_tolerance_is_that_of_the_states_the_engine_saw(month):
    """Whatever a decision read at its block, the timeline says the same of that moment."""
    it, _, _ = month
    tables = it.evidence().tables
    assert tables["tolerance"]["unknown_s"].to_list() == [0] * 4
    assert set(tables["tolerance"]["seconds"]) == {DAYS * 86_400}
    spans = list(tables["outside"].select("since", "until").iter_rows())
    for line in Audit(it.local.audit).records():
        body = line.body
        if body["event"] == "decision":
            gap = max(abs(w - t) for w, t in zip(body["state"]["weights"], body["state"]["target"], strict=True))
            at = datetime.fromtimestamp(body["snapshot"]["block_time"], UTC)
            assert any(a <= at < b for a, b in spans) == (gap > 0.05), body["decision_id"]


def test_made_again_elsewhere_it_is_the_same_to_the_last_byte(month, tmp_path):
    it, _, _ = month
    here, there = it.evidence(), evidence_of(elsewhere(it.local, tmp_path / "there"), it.begin, it.end)
    files, again = files_of(here.head, here.tables), files_of(there.head, there.tables)
    assert files == again
    for name, data in files.items():
        assert str(it.local.root).encode() not in data, name
    page = files["mandate.html"].decode()
    assert not re.search(r"(src|href)=.?https?:", page)
    assert "prefers-color-scheme: dark" in page
    assert len(files) == 2 * len(COLUMNS) + 3


def test_later_records_change_nothing_of_a_period_that_is_over(month, tmp_path):
    it, _, _ = month
    copy = elsewhere(it.local, tmp_path / "later")
    cut = it.begin + timedelta(days=9)
    before = files_of(*_parts(evidence_of(copy, it.begin, cut)))
    Audit(copy.audit).append("refusal", {"decision_id": "later", "ts": it.end.isoformat(), "vault": copy.vault.address,
                                         "verdicts": [], "why": "later"})  # fmt: skip
    assert files_of(*_parts(evidence_of(copy, it.begin, cut))) == before


def _parts(evidence):
    return evidence.head, evidence.tables


def test_what_people_did_by_hand_is_listed_wherever_it_is_kept(month, tmp_path):
    it, _, _ = month
    copy = elsewhere(it.local, tmp_path / "hand")
    at = it.begin + timedelta(days=3)
    Audit(copy.audit).append("stop", {"ts": at.isoformat(), "deployment": copy.name, "reason": "a look"})
    row = {"table": "gas", "series": "1", "start": at, "end": at, "note": "seen on the chain", "available_at": at}
    lake_of(copy).write("accepted", pl.DataFrame([row], schema_overrides=table("accepted").columns))
    actions = evidence_of(copy, it.begin, it.end).tables["actions"]
    told = dict(actions.select("event", "what").iter_rows())
    assert "a look" in told["stop"]
    assert "seen on the chain" in told["odd values confirmed"]
    assert actions["ts"].is_sorted()
    assert {"Scheduled", "TargetsSet", "Executed"} < set(told)


def test_a_planted_record_without_an_event_is_found_and_named(month, tmp_path):
    it, done, _ = month
    copy = elsewhere(it.local, tmp_path / "forged")
    lines = [r.body for r in Audit(copy.audit).records()]
    settled = next(b for b in lines if b["event"] == "settlement")
    true = next(b for b in lines if b["event"] == "decision" and b["plan_hash"] == settled["plan_hash"])
    forged = "0x" + "ab" * 32
    audit = Audit(copy.audit)
    audit.append("decision", {k: v for k, v in true.items() if k != "event"} | {"plan_hash": forged})
    audit.append("settlement", {k: v for k, v in settled.items() if k != "event"} | {"plan_hash": forged})
    evidence = evidence_of(copy, it.begin, it.end)
    told = found(evidence)
    assert ("no_record", done["theft"].tx_hash) in told
    assert ("no_event", forged) in told
    assert ("plan_hash", forged) in told  # and its own legs give another hash
    assert any(forged in w for w in evidence.tables["findings"]["words"])
    verified = audit_verify(copy)
    assert not verified["ok"]
    assert done["theft"].tx_hash in verified["text"]


def rewritten(copy, change):
    """The record with one body changed and every hash after it made anew: a forger with the whole file."""
    rows = [json.loads(line) for line in copy.audit.read_text().splitlines()]
    change(rows)
    prev = "0" * 64
    for row in rows:
        row["prev"], row["hash"] = prev, digest(row["seq"], prev, row["body"])
        prev = row["hash"]
    copy.audit.write_text("".join(json.dumps(r, sort_keys=True, separators=(",", ":")) + "\n" for r in rows))
    head_path(copy.audit).write_text(json.dumps({"seq": len(rows) - 1, "hash": prev}))


def test_a_record_that_was_forged_whole_does_not_come_out_again(month, tmp_path):
    it, _, _ = month
    copy = elsewhere(it.local, tmp_path / "rewritten")

    def change(rows):
        body = next(r["body"] for r in rows if r["body"]["event"] == "decision")
        body["decided"] = [w + 0.01 for w in body["decided"]]
        other = [r["body"] for r in rows if r["body"]["event"] == "decision"][1]
        other["snapshot"]["nav"] = "1"

    rewritten(copy, change)
    kinds = {k for k, _ in found(evidence_of(copy, it.begin, it.end))}
    assert {"replay", "digest", "no_record"} <= kinds
    assert kinds <= set(WORDS)
    shutil.rmtree(copy.root / "lake" / "decisions")
    assert evidence_of(copy, it.begin, it.end).faults >= 3


def test_what_cannot_be_reported_is_one_line(month, tmp_path):
    it, _, _ = month
    with pytest.raises(ConfigError, match="not past yet"):
        evidence_of(it.local, it.begin, it.end + timedelta(days=400))
    with pytest.raises(ConfigError, match="must be before"):
        evidence_of(it.local, it.end, it.begin)
    copy = elsewhere(it.local, tmp_path / "broken")
    text = copy.audit.read_text()
    copy.audit.write_text(text.replace('"action":"', '"action":"x', 1))
    with pytest.raises(DataError, match="broken at record"):
        evidence_of(copy, it.begin, it.end)
    paper = replace(it.local, vault=it.local.vault.model_copy(update={"kind": "simulated"}))
    with pytest.raises(ConfigError, match="on a chain"):
        evidence_of(paper, it.begin, it.end)

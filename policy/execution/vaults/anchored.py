"""The audit held against what a vault on a chain says of itself: its count of executed plans and its events."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lake.evm import Call, head_of, read, read_logs
from lake.rpc import Rpc
from policy.execution.records.hashlog import Body, Line
from policy.execution.records.journal import EXECUTED, NOTHING_TRADED
from policy.execution.vaults.reference.logs import DISARMED, REBALANCED

SPAN = 5_000
"""Blocks after a plan was made in which it must have landed: 600 s of the fastest chains, with slack."""

Find = Callable[[int | None, int, int], list[str]]
"""(plan nonce or any, first block, last block) -> hashes of the plans executed there, 0x hex."""


@dataclass(frozen=True, slots=True)
class Known:
    """A plan the audit knows: its record's number, nonce, hash, the block it was made at, what came of it and where."""

    seq: int
    nonce: int
    plan_hash: str
    block: int
    outcome: str = ""
    landed_in: int | None = None


def known(records: Sequence[Line], chain_id: int, vault: str) -> list[Known]:
    """Return the live plans of one vault on one chain with their last outcome, oldest first."""
    plans: dict[str, Known] = {}
    for line in records:
        body: Any = line.body
        if body["event"] == "decision" and body["live"] and body["plan"]:
            plan = body["plan"]
            if (plan["chain_id"], plan["vault"].lower()) == (chain_id, vault.lower()):
                plans[body["plan_hash"]] = Known(line.seq, plan["nonce"], body["plan_hash"], plan["block_number"])
        elif body["event"] == "settlement" and body["plan_hash"] in plans:
            was, where = plans[body["plan_hash"]], re.search(r"in block (\d+)$", body["note"])
            plans[was.plan_hash] = Known(
                line.seq, was.nonce, was.plan_hash, was.block, body["outcome"], int(where[1]) if where else None
            )
    return list(plans.values())


def faults(plans: Sequence[Known], executed: int | None, find: Find, since: int = 0) -> list[str]:
    """Return where audit and vault differ, both ways, in words.

    ``executed``: plans the vault counts, None where it counts others' too (a Safe); plans before nonce ``since`` were
    another operator's and are not asked for.
    """
    found, proven = [], set[int]()
    for plan in (p for p in plans if p.outcome in EXECUTED):
        first, last = (plan.block, plan.block + SPAN) if plan.landed_in is None else (plan.landed_in, plan.landed_in)
        if plan.plan_hash in find(plan.nonce, first, last):
            proven.add(plan.nonce)
        else:
            found.append(f"record {plan.seq} says that plan {plan.nonce} landed, the vault has no event of it")
    for nonce in range(since, executed or 0):
        if nonce in proven:
            continue
        tried = [p for p in plans if p.nonce == nonce]
        hashes = {p.plan_hash for p in tried}
        events = find(nonce, min(p.block for p in tried), max(p.block for p in tried) + SPAN) if tried else []
        if not hashes & set(events):
            found.append(f"the vault executed plan {nonce}, the audit has no record of it")
        found += [
            f"record {p.seq} says that plan {nonce} ended {p.outcome}, the vault executed it"
            for p in tried
            if p.outcome in NOTHING_TRADED and p.plan_hash in events
        ]
    return found


def reference_find(rpc: Rpc, vault: str) -> Find:
    """Return the lookup of what uses up a plan nonce of the reference vault: a plan, or an order that has ended."""

    def find(nonce: int | None, first: int, last: int) -> list[str]:
        topics: list[object] = [[REBALANCED, DISARMED]]
        topics += [] if nonce is None else [f"0x{nonce:064x}"]
        ask = {"address": vault, "topics": topics, "fromBlock": hex(first), "toBlock": hex(last)}
        return [str(cast("Sequence[object]", log["topics"])[2]) for log in read_logs(rpc, ask)]

    return find


def plans_executed(rpc: Rpc, vault: str) -> int:
    """Return the reference vault's count of executed plans: the nonce that the next plan must bear."""
    row = read(rpc, [Call(vault, "clock()", "uint256")], head_of(rpc).hash)[0]
    return cast("int", row[0])


def untold(records: Sequence[Body], chain_id: int, vault: str) -> list[str]:
    """Return the plans that the vault's count of them passed over between the last two looks, without a record.

    By the record alone, without asking the chain: what two cycles in a row read of the vault's plan nonce.
    """
    seen = [b for b in records if b.get("event") in {"decision", "refusal"} and b.get("snapshot")]
    looks = [b["snapshot"] for b in seen if _is_of(b, chain_id, vault)]
    if len(looks) < 2 or any("plan_nonce" not in s for s in looks[-2:]):
        return []
    before, now = looks[-2:]
    made = {b["plan"]["nonce"] for b in records if b.get("event") == "decision" and b["live"] and b["plan"]}
    return [
        f"plan {n} was executed between blocks {before['block_number']} and {now['block_number']}, "
        "the audit has no record of it"
        for n in range(before["plan_nonce"], now["plan_nonce"])
        if n not in made
    ]


def _is_of(body: Body, chain_id: int, vault: str) -> bool:
    return body["snapshot"]["chain_id"] == chain_id and str(body["vault"]).lower() == vault.lower()

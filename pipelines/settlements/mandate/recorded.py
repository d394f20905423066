"""What the audit record and the lake say of a period: decisions, forecasts, verdicts, refusals and settlements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from lake.errors import DataError
from lake.store import Lake
from lake.units import BPS, utc
from pipelines.settlements.mandate.frames import frame
from pipelines.settlements.reconcile import row_id
from policy.execution.base import Plan
from policy.execution.records.anchors import anchors
from policy.execution.records.audit import inputs_digest
from policy.execution.records.codec import plan_of
from policy.execution.records.hashlog import Line, canonical
from policy.execution.vaults.trades import Trade
from policy.strategies.replay import replay

INPUTS = ("snapshot", "state", "forecasts", "data", "memory", "memory_digest")
"""What the digest of a decision's inputs is taken over."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The records of one vault up to the end of a period; ``inside`` are those of the period itself.

    ``last``: the newest record considered. Later ones, which may say what became of the last plans, belong to the next
    report, so that this one never changes.
    """

    upto: tuple[Line, ...]
    inside: tuple[Line, ...]
    last: Line | None
    whole: tuple[Line, ...] = ()  # up to the same end, of other vaults too


def recorded(lines: Sequence[Line], start: datetime, end: datetime, vault: str) -> Recorded:
    """Return the records of ``vault`` that a report of the period rests on."""
    times = [utc(str(line.body["ts"])) if line.body.get("ts") else None for line in lines]
    cut = max((i for i, at in enumerate(times) if at is not None and at < end), default=-1)
    upto = lines[: cut + 1]
    plans = {line.body["plan_hash"] for line in upto if line.body.get("plan_hash") and _of(line, vault)}
    own = [line for line in upto if _of(line, vault) or _beside(line, plans)]
    inside = tuple(line for line in own if (at := times[line.seq]) is not None and start <= at < end)
    return Recorded(tuple(own), inside, lines[cut] if cut >= 0 else None, tuple(upto))


def _of(line: Line, vault: str) -> bool:
    return str(line.body.get("vault", "")).lower() == vault.lower()


def _beside(line: Line, plans: Collection[object]) -> bool:
    """Return whether a record that names no vault belongs to one with these plans, or to the audit as a whole."""
    if "vault" in line.body:
        return False
    return line.body.get("plan_hash") in plans if line.body.get("event") in {"settlement", "closing"} else True


def decisions(record: Recorded, seal: Callable[[Plan], bytes] | None) -> pl.DataFrame:
    """Return every decision of the period, with its digest, its plan's hash and its weights computed once more.

    ``seal`` computes the hash of a plan; None where the vault's kind computes it on the chain alone.
    """
    rows = []
    for line in record.inside:
        body: Any = line.body
        if body.get("event") != "decision":
            continue
        plan = body.get("plan")
        inputs = {name: body.get(name) for name in INPUTS}
        again = None if plan is None or seal is None or plan.get("order") else "0x" + seal(plan_of(plan)).hex()
        rows.append({
            "seq": line.seq, "record": line.hash, "decision_id": body["decision_id"], "ts": utc(body["ts"]),
            "policy": body["policy"], "action": body["action"], "live": body["live"],
            "outcome": _outcome(record.upto, body), "why": body["why"], "inputs_digest": body["inputs_digest"],
            "digest_again": inputs_digest(inputs) == body["inputs_digest"], "block": body["snapshot"]["block_number"],
            "forecasts": len(body["forecasts"]),
            "refused": ", ".join(v["check"] for v in body["verdicts"] if not v["ok"]),
            "plan_hash": body["plan_hash"], "plan_nonce": plan["nonce"] if plan else None,
            "plan_hash_again": None if again is None else again == body["plan_hash"], "replay": replayed(body),
            "nav": body["snapshot"]["nav"], "weights_before": _weights(body["weights_before"]),
            "weights_wanted": _weights(body["weights_wanted"]),
        })  # fmt: skip
    return frame("decisions", rows)


def replayed(body: Mapping[str, Any]) -> str:
    """Return what comes of taking a decision again from its record alone: same, differs (in what), or not possible."""
    try:
        found = replay(body)
    except DataError as error:
        return f"not possible: {error}"
    return f"differs in {', '.join(found.differs)}" if found.differs else "same"


def _outcome(upto: Sequence[Line], body: Mapping[str, Any]) -> str:
    """Return what became of a decision: of its plan, by the records up to the end of the period, else what it said."""
    told = body["outcome_so_far"] if body["plan_hash"] is None or not body["live"] else "open at the end"
    for line in upto:
        if line.body.get("event") == "settlement" and body["plan_hash"] and body["live"]:
            told = line.body["outcome"] if line.body["plan_hash"] == body["plan_hash"] else told
    return str(told)


def _weights(values: Sequence[float]) -> str:
    return " ".join(f"{100 * w:.2f}" for w in values)


def verdicts(record: Recorded) -> pl.DataFrame:
    """Return every verdict on every decision and refusal of the period."""
    return frame("verdicts", (
        {"seq": line.seq, "decision_id": line.body["decision_id"], **{k: v[k] for k in ("check", "ok", "reason")}}
        for line in record.inside for v in line.body.get("verdicts", ())
    ))  # fmt: skip


def refusals(record: Recorded) -> pl.DataFrame:
    """Return what was refused in the period: before anything was decided, and plans that failed a check."""
    rows = []
    for line in record.inside:
        body: Any = line.body
        failed = [v["check"] for v in body.get("verdicts", ()) if not v["ok"]]
        if body.get("event") == "refusal" or (body.get("event") == "decision" and failed):
            rows.append({
                "seq": line.seq, "decision_id": body["decision_id"], "ts": utc(body["ts"]),
                "checks": ", ".join(failed), "why": body["why"],
            })  # fmt: skip
    return frame("refusals", rows)


def forecasts(record: Recorded, lake: Lake) -> pl.DataFrame:
    """Return every forecast that a decision of the period had, and whether the lake has that very row."""
    rows = [
        {
            "seq": line.seq, "decision_id": line.body["decision_id"], "target": f["target"], "key": f["key"],
            "horizon_s": f["horizon_s"], "issued_at": utc(f["issued_at"]),
            "mean": None if f["mean"] is None else float(f["mean"]), "model_version": f["model_version"],
            "abstain": f["abstain"], "reason": f["reason"],
        }
        for line in record.inside if line.body.get("event") == "decision" for f in line.body["forecasts"]
    ]  # fmt: skip
    found = frame("forecasts", rows).drop("in_lake")
    key = ["target", "key", "horizon_s", "issued_at"]
    known = lake.scan("forecasts").select([*key, "mean", "model_version", "abstain"]).collect()
    same = found.join(known, on=key, how="left", suffix="_lake", maintain_order="left")
    alike = [pl.col(c).eq_missing(pl.col(f"{c}_lake")) for c in ("mean", "model_version", "abstain")]
    return same.with_columns(in_lake=pl.all_horizontal(alike)).select([*found.columns, "in_lake"])


def terms(record: Recorded) -> pl.DataFrame:
    """Return the terms that decisions of the period were taken on, each with its first and last use."""
    seen: dict[str, dict[str, Any]] = {}
    for line in record.inside:
        body: Any = line.body
        if body.get("event") != "decision" or body.get("state") is None:
            continue
        state = body["state"]
        content = {k: state[k] for k in ("assets", "target", "tolerance", "gamma", "scenario", "max_turnover")}
        key, at = inputs_digest({"policy": body["policy"], **content}), utc(body["ts"])
        row = seen.setdefault(key, {
            "hash": key, "first": at, "last": at, "decisions": 0, "policy": body["policy"],
            "content": canonical(content),
        })  # fmt: skip
        row["last"], row["decisions"] = at, row["decisions"] + 1
    return frame("terms", seen.values())


CYCLES = frozenset({"decision", "refusal", "settlement", "closing", "hedge", "lost", "anchor"})
"""Events of decision cycles and of the record itself; any other is what somebody did by hand."""


def by_hand(record: Recorded) -> pl.DataFrame:
    """Return what people did that the record keeps beside decisions: stopping and resuming, for example."""
    rows = []
    for line in record.inside:
        if line.body.get("event") not in CYCLES:
            what = canonical({k: v for k, v in line.body.items() if k not in {"event", "ts"}})
            rows.append({"ts": utc(str(line.body["ts"])), "event": str(line.body["event"]), "what": what})
    return frame("actions", rows)


def bound(record: Recorded, trades: Sequence[Trade]) -> tuple[pl.DataFrame, list[str]]:
    """Return the heads asked to be anchored up to the period's end, with the event that bound each.

    And in words those that are no longer the hash of the record they name: it was written anew since.
    """
    lines = {line.seq: line for line in record.upto}
    at = {t.plan_hash: t for t in trades if t.traded}
    rows, wrong = [], []
    for anchor in anchors(record.whole):
        trade = at.get(anchor.plan_hash)
        state = "not bound yet" if not anchor.plan_hash else "bound in another period" if trade is None else "bound"
        if not anchor.true:
            state = "not the record's"
            wrong.append(
                f"record {anchor.seq} anchored {anchor.head} as the hash of record {anchor.of}, which has another"
            )
        rows.append({
            "seq": anchor.seq, "record": lines[anchor.seq].hash, "ts": utc(str(lines[anchor.seq].body["ts"])),
            "anchored_seq": anchor.of, "head": anchor.head, "plan_hash": anchor.plan_hash or None,
            "block": None if trade is None else trade.block, "tx_hash": None if trade is None else trade.tx_hash,
            "state": state,
        })  # fmt: skip
    return frame("anchors", rows), wrong


def settlements(record: Recorded, losses_ppb: Mapping[str, int]) -> pl.DataFrame:
    """Return every settlement of the period; ``losses_ppb``: what the vault says each plan lost, by plan hash."""
    rows = []
    for line in record.inside:
        body: Any = line.body
        if body.get("event") != "settlement":
            continue
        done = body["settlement"] or {}
        mined = _transaction(body)
        rows.append({
            "seq": line.seq, "decision_id": body["decision_id"], "ts": utc(body["ts"]), "plan_hash": body["plan_hash"],
            "outcome": body["outcome"], "tx_hash": mined, "gas_used": done.get("gas_used"),
            "gas_cost_wei": done.get("gas_cost_wei"), "nav_before": done.get("nav_before"),
            "nav_after": done.get("nav_after"), "loss_ppb": losses_ppb.get(body["plan_hash"]), "note": body["note"],
        })  # fmt: skip
    return frame("settlements", rows)


def _transaction(body: Mapping[str, Any]) -> str | None:
    """Return the transaction a settlement names: its note's, where that is one."""
    note = str(body["note"])
    return note if note.startswith("0x") and len(note) == 66 else None


def fills(record: Recorded) -> pl.DataFrame:
    """Return each settled plan's change of every token beside what was planned and what was the least allowed."""
    plans = {line.body["plan_hash"]: line.body["plan"] for line in record.upto
             if line.body.get("event") == "decision" and line.body.get("plan")}  # fmt: skip
    rows = []
    for line in record.inside:
        body: Any = line.body
        plan = plans.get(body.get("plan_hash")) if body.get("event") == "settlement" else None
        if plan is None or body["settlement"] is None or not body["settlement"]["landed"]:
            continue
        planned, least = _expected(plan)
        for token, actual in sorted(body["settlement"]["deltas"].items()):
            wanted = planned.get(token, 0)
            off = (int(actual) - wanted) / abs(wanted) * BPS if wanted else None
            rows.append({
                "plan_hash": body["plan_hash"], "token": token, "planned": str(wanted),
                "at_least": str(least.get(token, 0)), "actual": actual, "off_bp": off,
            })  # fmt: skip
    return frame("fills", rows)


def _expected(plan: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return what a plan was to change by token: as quoted, and at the least."""
    planned: dict[str, int] = {}
    least: dict[str, int] = {}
    for leg in plan["legs"]:
        for book, bought in ((planned, leg["quoted_out"]), (least, leg["min_out"])):
            book[leg["token_in"]] = book.get(leg["token_in"], 0) - int(leg["amount_in"])
            book[leg["token_out"]] = book.get(leg["token_out"], 0) + int(bought)
    return planned, least


def in_the_lake(record: Recorded, lake: Lake, label: str, start: datetime, end: datetime) -> list[str]:
    """Return where the lake's rows of the period differ from the record, in words."""
    newest: dict[str, tuple[int, str]] = {}
    for line in record.upto:
        if line.body.get("event") == "decision":
            newest[row_id(line.body)] = line.seq, str(line.body["inputs_digest"])
    inside = (pl.col("vault") == label) & (pl.col("ts") >= start) & (pl.col("ts") < end)
    rows = lake.scan("decisions").filter(inside).sort("decision_id").select("decision_id", "inputs_digest").collect()
    found = []
    for name, digest in rows.iter_rows():
        if name not in newest:
            found.append(f"the lake has decision {name}, the audit has no record of it")
        elif newest[name][1] != digest:
            found.append(f"the lake has decision {name} with inputs {digest}, record {newest[name][0]} says otherwise")
    return found

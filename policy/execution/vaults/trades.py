"""What a vault says it traded, and the audit held against it: no trade without a record, no record without a trade."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.evm import Call, read
from lake.rpc import Rpc
from policy.execution.records.journal import EXECUTED, NOTHING_TRADED
from policy.execution.vaults.anchored import Known
from policy.execution.vaults.enzyme.events import EXECUTED as INTEGRATED
from policy.execution.vaults.enzyme.events import carried
from policy.execution.vaults.reference.logs import DISARMED, REBALANCED
from policy.execution.vaults.safe.history import EXECUTED as SAFE_EXECUTED
from policy.execution.vaults.safe.history import executed
from policy.execution.vaults.safe.register import LANDED, register_address
from policy.execution.vaults.scan import address_topic, place, scan_logs, words_of

BY_MODULE = "0x" + keccak(text="ExecutionFromModuleSuccess(address)").hex()
CANCELLED = NOTHING_TRADED | {"expired", "disarmed"}
"""Outcomes that say that nothing was traded."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One use of a vault's plans in its own events. ``plan_hash`` is empty where a trade bore none.

    ``traded``: whether something may have been sold; an order that nobody filled uses its plan up without.
    """

    block: int
    index: int  # of its event within the block
    tx_hash: str
    plan_hash: str
    nonce: int | None = None
    traded: bool = True


Trades = Callable[[int, int], list[Trade]]
"""(first block, last block) -> the trades in them, in the chain's order."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where audit and vault differ. kind: no_event | no_record | otherwise | twice | unsettled."""

    kind: str
    plan_hash: str
    words: str
    block: int | None = None
    tx_hash: str = ""


def reference_trades(rpc: Rpc, vault: str) -> Trades:
    """Return the trades of the reference vault: plans, and orders at their end."""

    def trades(first: int, last: int) -> list[Trade]:
        found = []
        for log in scan_logs(rpc, vault, [[REBALANCED, DISARMED]], first, last):
            topics = words_of(log)
            unfilled = topics[0] == DISARMED and not int(str(log["data"]), 16)
            at = (*place(log), str(log["transactionHash"]))
            found.append(Trade(*at, topics[2], int(topics[1], 16), traded=not unfilled))
        return found

    return trades


def registered_trades(rpc: Rpc, safe: str, modifier: str | None = None) -> Trades:
    """Return the plans a Safe landed in the register, and what ``modifier`` (Zodiac Roles) let it do beside them."""

    def trades(first: int, last: int) -> list[Trade]:
        landed = scan_logs(rpc, register_address(), [LANDED, address_topic(safe)], first, last)
        found = [
            Trade(*place(log), str(log["transactionHash"]), words_of(log)[3], int(words_of(log)[2], 16))
            for log in landed
        ]
        planned = {t.tx_hash for t in found}
        ask: list[object] = [BY_MODULE, address_topic(modifier)] if modifier else []
        beside = scan_logs(rpc, safe, ask, first, last) if modifier else []
        sent = [(log, str(log["transactionHash"])) for log in beside]
        found += [Trade(*place(log), tx, "") for log, tx in sent if tx not in planned]
        return sorted(found, key=lambda t: (t.block, t.index))

    return trades


def owner_trades(rpc: Rpc, safe: str) -> Trades:
    """Return the batches of a Safe whose keeper is its owner, by the Safe's own hash."""

    def trades(first: int, last: int) -> list[Trade]:
        logs = scan_logs(rpc, safe, [SAFE_EXECUTED], first, last)
        told = [(log, executed(log, safe)) for log in logs]
        return [Trade(*place(log), str(log["transactionHash"]), done) for log, done in told if done is not None]

    return trades


def fund_trades(rpc: Rpc, vault: str) -> Trades:
    """Return the integration calls of an Enzyme fund, with the plan hash that each carried."""

    def trades(first: int, last: int) -> list[Trade]:
        ((accessor,),) = read(rpc, [Call(vault, "getAccessor()", "address")])
        owner = str(to_checksum_address(cast("str", accessor)))
        ((manager,),) = read(rpc, [Call(owner, "getIntegrationManager()", "address")])
        logs = scan_logs(rpc, str(to_checksum_address(cast("str", manager))), [INTEGRATED, address_topic(owner)],
                         first, last)  # fmt: skip
        sent = [(log, str(log["transactionHash"])) for log in logs]
        return [Trade(*place(log), tx, carried(rpc, tx)) for log, tx in sent]

    return trades


def disagreements(plans: Sequence[Known], trades: Sequence[Trade], first: int, last: int) -> list[Disagreement]:
    """Return where the audit's ``plans`` and the vault's ``trades`` differ in blocks ``first`` to ``last``, both ways.

    ``trades`` reach beyond ``last`` as far as plans made before it may land; of the plans only those made in the
    blocks must have traded, of the trades only those in them must be recorded.
    """
    found: list[Disagreement] = []
    events: dict[str, list[Trade]] = {}
    for trade in trades:
        events.setdefault(trade.plan_hash, []).append(trade)
    known = {p.plan_hash: p for p in plans}
    for plan in plans:
        done = [t for t in events.get(plan.plan_hash, []) if t.traded]
        if plan.outcome in EXECUTED and not done and first <= (plan.landed_in or plan.block) <= last:
            where = "" if plan.landed_in is None else f" in block {plan.landed_in}"
            words = (
                f"record {plan.seq} says that plan {plan.nonce} ({plan.plan_hash}) was executed{where}, "
                "the vault has no event of it"
            )
            found.append(Disagreement("no_event", plan.plan_hash, words))
    for trade in (t for t in trades if first <= t.block <= last and t.traded):
        found += _of_trade(trade, known.get(trade.plan_hash), events[trade.plan_hash])
    return found


def _of_trade(trade: Trade, plan: Known | None, alike: Sequence[Trade]) -> list[Disagreement]:
    """Return what is wrong with one trade: not recorded, recorded otherwise, made twice, or not settled."""
    at = f"transaction {trade.tx_hash} in block {trade.block}"
    nonce = "" if trade.nonce is None else f" {trade.nonce}"
    place_of = (trade.plan_hash, trade.block, trade.tx_hash)
    if plan is None:
        what = f"executed plan{nonce} ({trade.plan_hash})" if trade.plan_hash else "traded without a plan"
        kind, words = "no_record", f"{at} {what}, the audit has no record of it"
    elif plan.outcome in CANCELLED:
        kind, words = "otherwise", f"{at} executed plan{nonce}, record {plan.seq} says that it ended {plan.outcome}"
    elif plan.landed_in not in {None, trade.block}:
        kind, words = "otherwise", f"{at} executed plan{nonce}, record {plan.seq} says in block {plan.landed_in}"
    elif trade.plan_hash and next(t for t in alike if t.traded) is not trade:
        kind, words = "twice", f"{at} executed plan{nonce} ({trade.plan_hash}) once more"
    elif not plan.outcome:
        kind, words = "unsettled", f"{at} executed plan{nonce}, its settlement is not recorded"
    else:
        return []
    return [Disagreement(kind, place_of[0], words, place_of[1], place_of[2])]

"""Why a plan reverts, in plain words: the failing leg is replayed, its pair, pool and code are named.

A contract's reason is a code of a few letters, and a Safe swallows even that; so the legs are executed one after the
other from the account itself, each with its approval, and the first one that fails or pays too little is the culprit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from lake.answers import Fields, data, fields, rows
from lake.errors import RpcError
from lake.evm import BlockHeader, Call, calldata, head_of
from lake.rpc import Rpc
from policy.execution.base import Leg, Plan, Receipt, Token, Verdict
from policy.execution.checks.verdicts import refused
from policy.execution.submission.revert_words import CONDITION_VIOLATION, CUSTOM, PANICS, ROLE_STATUS, meaning

RECENT = 64
"""Blocks back to which a mined revert is replayed on its own state; older ones are replayed on the newest block, since
most nodes keep the state of 128 blocks."""

UNSAID = "reverted without a reason"
_ERROR, _PANIC = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")  # Error(string), Panic(uint256)
_WORD = 32
_APPROVE = "approve(address,uint256)"
_PART = 4  # calls of one replayed leg: balance, approval, swap, balance

WHOLE = "each leg alone goes through"
"""Said of a plan that reverts as a whole only: it is not a leg's fault."""


@runtime_checkable
class Explains(Protocol):
    """A vault that says why a plan of its reverts."""

    def why(self, plan: Plan, revert: str | None, receipt: Receipt | None = None) -> str:
        """Return the reason in words."""
        ...


def reason_of(raw: str | None, fallback: str = UNSAID) -> str:
    """Return the text of revert data: the string of Error(string), a panic, a known error's name, else the data."""
    try:
        given = data(raw or "0x")
    except RpcError:
        return fallback
    kind, rest = given[:4], given[4:]
    try:
        if kind == _ERROR:
            return str(decode(["string"], rest)[0])
        if kind == _PANIC:
            code = int(decode(["uint256"], rest)[0])
            return f"panic 0x{code:02x}: {PANICS.get(code, 'an assertion failed')}"
    except (DecodingError, ValueError):
        return "0x" + given.hex()
    if kind.hex() in CUSTOM:
        return CUSTOM[kind.hex()]
    if kind.hex() == CONDITION_VIOLATION and len(rest) >= _WORD:
        status = int.from_bytes(rest[:_WORD], "big")
        return f"the keeper's role forbids it (status {status}): {ROLE_STATUS.get(status, 'see Zodiac Roles')}"
    return "0x" + given.hex() if given else fallback


def explained(vault: object, plan: Plan, revert: str | None) -> str:
    """Return why ``plan`` reverts, with the leg at fault where ``vault`` can tell; a node's failure does not raise."""
    if isinstance(vault, Explains):
        return vault.why(plan, revert)
    return meaning(revert or UNSAID)


def why_reverted(
    rpc: Rpc, plan: Plan, tokens: Sequence[Token], revert: str | None, receipt: Receipt | None = None
) -> str:
    """Return the reason in words, with block and gas where it was mined; a replay that fails is said as such."""
    lead = ""
    try:
        head = head_of(rpc)
        if receipt is not None:
            lead = f"mined in block {receipt.block_number} and reverted, {receipt.gas_used} gas paid: "
            if head.number - receipt.block_number < RECENT:
                head = head_of(rpc, receipt.block_number - 1)
            revert = revert or _mined_reason(rpc, receipt, head)
        culprit = failing_leg(rpc, plan, tokens, head)
    except RpcError as error:
        told = "" if revert is None else f"{meaning(revert)} "
        return f"{lead}{told}(no leg could be replayed: {str(error)[:160]})"
    if culprit is not None:
        told = "" if revert is None or revert in culprit else f"; the whole plan: {meaning(revert)}"
        return f"{lead}{culprit}{told}"
    return f"{lead}{meaning(revert or UNSAID)} ({WHOLE})"


def failing_leg(rpc: Rpc, plan: Plan, tokens: Sequence[Token], head: BlockHeader) -> str | None:
    """Return the first leg that fails or pays too little after ``head``, in words; None when all go through.

    Raises RpcError when the node cannot execute calls one after the other (eth_simulateV1).
    """
    calls = [call for leg in plan.legs for call in _calls(plan.vault, leg)]
    ahead = {"number": hex(head.number + 1), "time": hex(head.time + 12)}
    body = {"blockStateCalls": [{"blockOverrides": ahead, "calls": calls}], "validation": False}
    what = "eth_simulateV1"
    blocks = rows(rpc.call(what, [body, hex(head.number)]), what, 1)
    found = fields(blocks[0], what).rows("calls", len(calls))
    names = {t.address.lower(): t.symbol for t in tokens}
    for i, leg in enumerate(plan.legs):
        part = [fields(row, what) for row in found[_PART * i : _PART * (i + 1)]]
        fault = _fault(leg, part)
        if fault is not None:
            return f"leg {i + 1} of {len(plan.legs)}, {described(leg, names)}: {fault}"
    return None


def described(leg: Leg, names: Mapping[str, str]) -> str:
    """Return a leg as ``USDC -> WETH in uniswap_v3 pool 0x... (fee 500 pips)``, through all its pools."""
    pair = " -> ".join(names.get(t.lower(), t) for t in (leg.token_in, leg.token_out))
    return f"{pair} in " + ", ".join(f"{h.venue} pool {h.pool} (fee {h.fee_pips} pips)" for h in leg.path)


def missed(receipt: Receipt, deltas: Mapping[str, int], why: str) -> Verdict:
    """Return the verdict on a mined transaction that does not show as the plan's execution.

    Balances that moved all the same are an alarm: something was traded that the books would not count.
    """
    moved = {t: str(d) for t, d in deltas.items() if d}
    if moved:
        reason = (
            f"ALARM: {receipt.tx_hash} in block {receipt.block_number} moved the account's balances without the record "
            "of this plan; it counts as a trade, look at it before the next one"
        )
        return refused("alarm", reason, status=receipt.status, **moved)
    text = why or f"block {receipt.block_number} holds {receipt.tx_hash}, which is no execution of this plan"
    return refused("landed", text, status=receipt.status, gas=receipt.gas_used, block=receipt.block_number)


def _calls(holder: str, leg: Leg) -> list[dict[str, str]]:
    def ask(token: str) -> dict[str, str]:
        return {"to": token, "data": Call(token, "balanceOf(address)", "uint256", (holder,)).data}

    approve = "0x" + calldata(_APPROVE, leg.target, leg.amount_in).hex()
    swap = {"from": holder, "to": leg.target, "data": "0x" + leg.calldata.hex()}
    return [
        ask(leg.token_out),
        {"from": holder, "to": leg.token_in, "data": approve},
        swap,
        ask(leg.token_out),
    ]


def _fault(leg: Leg, part: Sequence[Fields]) -> str | None:
    before, approval, swap, after = part
    if approval.quantity("status", 1) != 1:
        return f"the token refuses the approval: {meaning(revert_of(approval))}"
    if swap.quantity("status", 1) != 1:
        return meaning(revert_of(swap))
    if before.quantity("status", 1) != 1 or after.quantity("status", 1) != 1:
        return f"{leg.token_out} does not tell balances"
    got = int.from_bytes(after.data("returnData")[:32], "big") - int.from_bytes(before.data("returnData")[:32], "big")
    return f"min out: {got} arrive, at least {leg.min_out} are required" if got < leg.min_out else None


def revert_of(call: Fields) -> str:
    """Return the revert text of one failed call of eth_simulateV1."""
    error = call.raw.get("error")
    told = error if isinstance(error, Mapping) else {}
    raw = told.get("data") or call.raw.get("returnData")
    return reason_of(raw if isinstance(raw, str) and raw != "0x" else None, str(told.get("message") or UNSAID))


def _mined_reason(rpc: Rpc, receipt: Receipt, head: BlockHeader) -> str | None:
    """Return the revert text of a mined transaction, from executing it once more after ``head``; None if it passes."""
    what = "eth_getTransactionByHash"
    tx = fields(rpc.call(what, [receipt.tx_hash]), what)
    if receipt.gas_used >= tx.quantity("gas"):
        return "out of gas"
    call = {"from": tx.address("from"), "to": tx.address("to"), "data": "0x" + tx.data("input").hex()}
    try:
        rpc.call("eth_call", [call, hex(head.number)])
    except RpcError as error:
        if error.code is None:
            raise
        return reason_of(error.data, str(error))
    return None

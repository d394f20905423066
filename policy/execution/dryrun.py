"""Executing a transaction without sending it, and saying what would have moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from lake.errors import RpcError
from lake.evm import View, at_block, read
from lake.rpc import Rpc, quantity
from policy.execution.adapter import BlockHead
from policy.execution.base import Simulation, Token, UnsignedTx

ERROR_STRING = bytes.fromhex("08c379a0")  # Error(string)
NOT_SUPPORTED = frozenset({-32601, -32600, -32602})
"""Codes nodes without eth_simulateV1 answer with: no such method, bad request, bad parameters."""


def dry_run(
    rpc: Rpc, tx: UnsignedTx, sender: str, holder: str, tokens: Sequence[Token], head: BlockHead, block_time_s: int
) -> Simulation:
    """Return gas and the change of ``holder``'s balances when ``sender`` runs ``tx`` right after block ``head``."""
    try:
        return _simulate_v1(rpc, tx, sender, holder, tokens, head, block_time_s)
    except RpcError as error:
        if error.code not in NOT_SUPPORTED:
            raise
    return _by_call(rpc, tx, sender, tokens, head, block_time_s)


def reason_of(data: str | None, fallback: str = "reverted without a reason") -> str:
    """Return the text of revert ``data``: the string of Error(string), else the data itself."""
    raw = bytes.fromhex((data or "0x")[2:])
    if raw[:4] == ERROR_STRING:
        try:
            return str(decode(["string"], raw[4:])[0])
        except DecodingError:
            return "0x" + raw.hex()
    return "0x" + raw.hex() if raw else fallback


def _simulate_v1(
    rpc: Rpc, tx: UnsignedTx, sender: str, holder: str, tokens: Sequence[Token], head: BlockHead, block_time_s: int
) -> Simulation:
    """eth_simulateV1: balances, the transaction, balances again, in one simulated block."""
    asks = [{"to": t.address, "data": _balance(t, holder)} for t in tokens]
    call = {"from": sender, "to": tx.to, "data": "0x" + tx.data.hex(), "value": hex(tx.value)}
    ahead = {"number": hex(head.number + 1), "time": hex(head.time + block_time_s)}
    body = {
        "blockStateCalls": [{"blockOverrides": ahead, "calls": [*asks, call, *asks]}],
        "validation": False,
    }
    result: Any = rpc.call("eth_simulateV1", [body, hex(head.number)])
    rows = result[0]["calls"]
    n = len(tokens)
    run = rows[n]
    if quantity(run["status"]) != 1:
        error = run.get("error") or {}
        data = error.get("data") or run.get("returnData")
        return Simulation(
            ok=False,
            gas_used=quantity(run["gasUsed"]),
            deltas={},
            revert=reason_of(data if isinstance(data, str) and data != "0x" else None, str(error.get("message", ""))),
        )
    amounts = [int(row["returnData"], 16) for row in (*rows[:n], *rows[n + 1 :])]
    deltas = {t.address: amounts[n + i] - amounts[i] for i, t in enumerate(tokens)}
    return Simulation(ok=True, gas_used=quantity(run["gasUsed"]), deltas=deltas)


def _by_call(
    rpc: Rpc, tx: UnsignedTx, sender: str, tokens: Sequence[Token], head: BlockHead, block_time_s: int
) -> Simulation:
    """eth_call in a block like the next one (the vault returns its balance changes), and eth_estimateGas."""
    call = {"from": sender, "to": tx.to, "data": "0x" + tx.data.hex(), "value": hex(tx.value)}
    ahead = {"number": hex(head.number + 1), "time": hex(head.time + block_time_s)}
    try:
        out = rpc.call("eth_call", [call, at_block(head.hash), {}, ahead])
        gas = quantity(rpc.call("eth_estimateGas", [call, "pending"]))
    except RpcError as error:
        if error.code is None:
            raise
        return Simulation(ok=False, gas_used=0, deltas={}, revert=reason_of(error.data, str(error)))
    moved: Any = ()
    if isinstance(out, str) and len(out) > 66:  # a list; an account that answers a bare bool says nothing of amounts
        moved = decode(["int256[]"], bytes.fromhex(out[2:]))[0]
    return Simulation(ok=True, gas_used=gas, deltas={t.address: d for t, d in zip(tokens, moved, strict=False)})


def balances(rpc: Rpc, holder: str, tokens: Sequence[Token], block_hash: str) -> tuple[int, ...]:
    """Return ``holder``'s raw balances at a block."""
    views = [View(t.address, "balanceOf(address)", "uint256", (holder,)) for t in tokens]
    return tuple(int(str(row[0])) for row in read(rpc, views, block_hash))


def _balance(token: Token, holder: str) -> str:
    return View(token.address, "balanceOf(address)", "uint256", (holder,)).data

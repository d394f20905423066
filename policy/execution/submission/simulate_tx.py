"""Executing a transaction without sending it, and saying what would have moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from eth_abi.abi import decode

from lake.answers import data, fields, quantity, rows, sensible
from lake.errors import RpcError
from lake.evm import Call, at_block, read
from lake.rpc import Rpc
from policy.execution.base import BlockHead, Simulation, Token, UnsignedTx
from policy.execution.submission.reverts import reason_of, revert_of

WORD = 32
GAS = 2**63 - 1

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
    what = "eth_simulateV1"
    blocks = rows(rpc.call(what, [body, hex(head.number)]), what, 1)
    found = [fields(row, what) for row in fields(blocks[0], what).rows("calls", 2 * len(tokens) + 1)]
    n = len(tokens)
    run = found[n]
    gas = run.quantity("gasUsed", GAS)
    if run.quantity("status", 1) != 1:
        return Simulation(ok=False, gas_used=gas, deltas={}, revert=revert_of(run))
    amounts = []
    for token, row in zip((*tokens, *tokens), (*found[:n], *found[n + 1 : 2 * n + 1]), strict=True):
        held = row.data("returnData")
        if row.quantity("status", 1) != 1 or len(held) < WORD:
            raise RpcError(f"{what}: {token.symbol} ({token.address}) does not tell the balance of {holder}")
        amounts.append(int.from_bytes(held[:WORD], "big"))
    deltas = {t.address: amounts[n + i] - amounts[i] for i, t in enumerate(tokens)}
    return Simulation(ok=True, gas_used=gas, deltas=deltas)


def _by_call(
    rpc: Rpc, tx: UnsignedTx, sender: str, tokens: Sequence[Token], head: BlockHead, block_time_s: int
) -> Simulation:
    """eth_call in a block like the next one (the vault returns its balance changes), and eth_estimateGas."""
    call = {"from": sender, "to": tx.to, "data": "0x" + tx.data.hex(), "value": hex(tx.value)}
    ahead = {"number": hex(head.number + 1), "time": hex(head.time + block_time_s)}
    try:
        out = rpc.call("eth_call", [call, at_block(head.hash), {}, ahead])
        gas = quantity(rpc.call("eth_estimateGas", [call, "pending"]), GAS)
    except RpcError as error:
        if error.code is None:
            raise
        return Simulation(ok=False, gas_used=0, deltas={}, revert=reason_of(error.data, str(error)))
    told = data(out)
    moved: Sequence[int] = ()
    if len(told) > WORD:  # a list; an account that answers a bare bool says nothing of amounts
        with sensible("eth_call of the plan"):
            moved = decode(["int256[]"], told)[0]
    return Simulation(ok=True, gas_used=gas, deltas={t.address: d for t, d in zip(tokens, moved, strict=False)})


def balances(rpc: Rpc, holder: str, tokens: Sequence[Token], block_hash: str) -> tuple[int, ...]:
    """Return ``holder``'s raw balances at a block."""
    views = [Call(t.address, "balanceOf(address)", "uint256", (holder,)) for t in tokens]
    return tuple(cast("int", row[0]) for row in read(rpc, views, block_hash))


def _balance(token: Token, holder: str) -> str:
    return Call(token.address, "balanceOf(address)", "uint256", (holder,)).data

"""Reading the vault's port at one block, and the calls that change or use it."""

from __future__ import annotations

from typing import Any

from eth_utils.address import to_checksum_address

from lake.evm import Call, calldata, read
from lake.rpc import Rpc
from policy.execution.bridges.routes import ROUTE_TYPE, row_of
from policy.execution.checks.port_rules import MAX_ROUTES, Ask, PortBook
from policy.execution.vaults.reference.state import PORT, ZERO

SET_ROUTE = f"set_route(uint256,{ROUTE_TYPE})"
SET_RATE, SET_BENEFICIARY, SET_SLACK = "set_rate(uint256,uint256)", "set_beneficiary(address)", "set_slack(uint256[])"
DEPART = "depart(uint256,uint256,uint256,uint256,uint256,uint256,bytes32)"
SETTLE = "settle(uint256,uint256,bool)"
OFFER = ",".join(["uint256", "bytes32", *["uint256"] * 7, "bool", "bool"])


def depart_data(ask: Ask, saga: bytes) -> bytes:
    """Return the calldata of a departure; ``saga`` are the 32 bytes that name the transfer."""
    return calldata(DEPART, ask.route, ask.amount, ask.fee, ask.speed, ask.deadline, ask.nonce, saga)


def read_port(rpc: Rpc, vault: str, block: int | str = "latest") -> PortBook:
    """Return the port of ``vault`` at one block: open routes, what left, and what the vault holds of their tokens."""
    asks = [
        Call(vault, "port()", PORT),
        Call(vault, "totalSupply()", "uint256"),
        Call(vault, "terms()", ",".join(["uint256"] * 5)),
        Call(vault, "offer()", OFFER),
        Call(vault, "tokens()", "address[],uint256[],uint256[]"),
        Call(vault, "balances()", "uint256[]"),
    ]
    port, (supply,), terms, offer, tokens, balances = (tuple(row) for row in read(rpc, asks, block))
    beneficiary, window_s, budget, window, before, now, live, _ = port
    owner = None if beneficiary == ZERO else to_checksum_address(str(beneficiary))
    ids = [i for i in range(MAX_ROUTES) if int(str(live)) >> i & 1]
    more = [Call(vault, "route(uint256)", f"{ROUTE_TYPE},uint256", (i,)) for i in ids]
    more += [Call(vault, "balanceOf(address)", "uint256", (owner,))] if owner else []
    rows: list[Any] = list(read(rpc, more, block)) if more else []
    addresses = [to_checksum_address(a) for a in tokens[0]]  # type: ignore[attr-defined]
    return PortBook(
        rows={i: row_of(row) for i, row in zip(ids, rows, strict=False)},
        beneficiary=owner,
        sole=owner is not None and rows[-1][0] == supply,
        managed=any(terms[3:]),
        window_s=_int(window_s),
        budget=_int(budget),
        window=_int(window),
        before=_int(before),
        now=_int(now),
        held=dict(zip(addresses, balances[0], strict=True)),  # type: ignore[call-overload]
        decimals=dict(zip(addresses, tokens[1], strict=True)),  # type: ignore[call-overload]
        armed=bool(offer[9]),
    )


def _int(value: object) -> int:
    return int(str(value))

"""Bridges of the local chains: CCTP's double on each, and a vault's routes to its sister on the other.

Both chains are built alike, the second one transaction later, so each knows the other's addresses beforehand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from rlp import encode as rlp  # type: ignore[import-untyped]

from lake.errors import ExecutionError
from lake.evm import calldata
from lake.rpc import quantity
from lake.universe import chain
from policy.execution.checks.port_rules import CCTP, FAST, RouteRow
from policy.execution.contracts.compile import source_digest
from policy.execution.vaults.reference.port_state import SET_BENEFICIARY, SET_RATE, SET_ROUTE
from policy.execution.vaults.reference.porting import destination_of
from policy.localnet.accounts import attesters, dev_accounts
from policy.localnet.deploy import Deployer
from policy.localnet.portfolio import DELAY_S
from policy.localnet.world import NUMERAIRE, Extra, World

CHAIN_IDS = (31_337, 31_338)
CCTP_ROUTE = 1
CONNECT = "connect(uint32,bytes32,bytes32,address,uint256)"
TRANSMITTER, MESSENGER, SISTER = "cctp_transmitter", "cctp_messenger", "sister_vault"
USD = 10**6  # of the numeraire and of the rate


@dataclass(frozen=True, slots=True)
class PortLimits:
    """Whole dollars: of one departure, on their way over a route, in any window; and the fee ceiling."""

    one: int = 100_000
    transit: int = 250_000
    window: int = 500_000
    window_s: int = 86_400
    fee_bps: int = 15
    burn: int = 1_000_000


def later(side: int) -> Extra:
    """Return the extra that sets the second chain's addresses one transaction apart; put it first."""

    def build(on: Deployer, _: World) -> Mapping[str, str]:
        for _step in range(side):
            on.send("deployer", dev_accounts()["deployer"].address, b"")
        return {}

    return Extra("later", str(side), build)


def bridged(side: int, limits: PortLimits | None = None) -> Extra:
    """Return the extra that opens the world's reference vault towards its sister on the other chain, over CCTP.

    Adds the double's two contracts and ``sister_vault`` to the world's extras. ``side``: 0 or 1 of CHAIN_IDS.
    """
    most = limits or PortLimits()

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        vault, cash = world.extras["vault"], world.token(NUMERAIRE).address
        here, there = (chain(CHAIN_IDS[s]) for s in (side, 1 - side))
        signers = [a.address for a in attesters()]
        given = [here.cctp_domain, signers, len(signers)]
        transmitter = on.vyper(TRANSMITTER, ["uint32", "address[]", "uint256"], given)
        messenger = on.vyper(MESSENGER, ["address", "address"], [transmitter, dev_accounts()["trader"].address])
        sister, far = (sister_of(on, a, side) for a in (vault, messenger))
        peers = _word(far), _word(cash), cash, most.burn * USD
        on.call("deployer", messenger, CONNECT, there.cctp_domain, *peers)
        row = RouteRow(
            CCTP, messenger, to_checksum_address(cash), destination_of(CCTP, there.chain_id), sister,
            to_checksum_address(cash), 6, most.one * USD, most.transit * USD, most.fee_bps, FAST,
        )  # fmt: skip
        changes = (
            calldata(SET_BENEFICIARY, dev_accounts()["investor"].address),
            calldata(SET_RATE, most.window_s, most.window * USD),
            calldata(SET_ROUTE, CCTP_ROUTE, row.encoded()),
        )
        through_timelock(on, vault, changes)
        return {TRANSMITTER: transmitter, MESSENGER: messenger, SISTER: sister}

    parts = [source_digest(c) for c in (TRANSMITTER, MESSENGER, "foredrift_port")]
    digest = hashlib.sha256(repr((parts, side, most)).encode()).hexdigest()
    return Extra("bridged", digest, build)


def through_timelock(on: Deployer, vault: str, changes: tuple[bytes, ...]) -> None:
    """Announce the owner's ``changes`` together, let the delay pass, make them in order."""
    for data in changes:
        on.call("owner", vault, "schedule(bytes)", data)
    on.rpc.call("evm_increaseTime", [DELAY_S + 1])
    on.rpc.call("evm_mine")
    for data in changes:
        on.call("owner", vault, "execute(bytes)", data)


def sister_of(on: Deployer, contract: str, side: int) -> str:
    """Return where the other chain has what the deployer made here at ``contract``."""
    maker = dev_accounts()["deployer"].address
    count = quantity(on.rpc.call("eth_getTransactionCount", [maker, "latest"]))
    nonce = next((n for n in range(count) if created(maker, n) == contract), None)
    if nonce is None:
        raise ExecutionError(f"{contract} was not made by the local chain's deployer")
    return created(maker, nonce + 1 - 2 * side)


def created(maker: str, nonce: int) -> str:
    """Return the address of what ``maker`` creates with transaction ``nonce``."""
    return str(to_checksum_address(keccak(rlp([bytes.fromhex(maker[2:]), nonce]))[12:]))


def _word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])

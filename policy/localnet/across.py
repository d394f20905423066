"""Across on the local chains: its published pools on both, and everybody who acts there, as calls.

The pools are the npm package's bytecode (``tarballs.ACROSS``). The hub on the first chain is left out: what it decides
by proposal and challenge, the roots of refunds and slow fills, the pools' owner relays at once (:func:`refund`,
:func:`fill_slowly`). The relayer is the development account ``trader``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.errors import ExecutionError
from lake.evm import calldata
from lake.universe import chain
from policy.execution.bridges.across_relay import DEPOSITED, RELAY_TYPE, Relay, deposit_of
from policy.execution.bridges.events import Log, event_topic, is_of, logs_between, padded, topics_of, word
from policy.execution.checks.port_rules import ACROSS, RouteRow
from policy.execution.contracts.compile import source_digest
from policy.execution.vaults.reference.port_state import SET_ROUTE
from policy.execution.vaults.reference.porting import destination_of
from policy.localnet import tarballs
from policy.localnet.accounts import dev_accounts
from policy.localnet.bridges import CHAIN_IDS, SISTER, USD, PortLimits, sister_of, through_timelock
from policy.localnet.deploy import Deployer
from policy.localnet.market import Localnet
from policy.localnet.world import NUMERAIRE, Extra, World

ACROSS_ROUTE = 2
POOL, SISTER_POOL = "across_pool", "sister_across_pool"
QUOTE_BUFFER_S, FILL_BUFFER_S = 3_600, 21_600
LEAST_WAIT_S = 1_800
"""Seconds before a refund that the route asks for at least."""
RELAYER, DATAWORKER = "trader", "deployer"
POOL_USD = 1_000_000
"""What the pool itself holds, for slow fills."""
FILL_RELAY = f"fillRelay({RELAY_TYPE},uint256,bytes32)"
ASK_SLOW = f"requestSlowFill({RELAY_TYPE})"
SLOW_LEAF = f"({RELAY_TYPE},uint256,uint256)"
FILL_SLOW = f"executeSlowRelayLeaf({SLOW_LEAF},uint32,bytes32[])"
REFUND_LEAF = "(uint256,uint256,uint256[],uint32,address,address[])"
REFUND = f"executeRelayerRefundLeaf(uint32,{REFUND_LEAF},bytes32[])"
RELAYED = event_topic("RelayedRootBundle(uint32,bytes32,bytes32)")
_ARTEFACTS = "artifacts/contracts/Ethereum_SpokePool.sol/Ethereum_SpokePool.json"
_PROXY = "artifacts/@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol/ERC1967Proxy.json"
_NOTHING = bytes(32)


def across(side: int, limits: PortLimits | None = None) -> Extra:
    """Return the extra that deploys Across' pool and opens the vault's route over it; it follows ``bridges.bridged``.

    Adds ``across_pool`` and ``sister_across_pool`` to the world's extras. ``side``: 0 or 1 of CHAIN_IDS.
    """
    most = limits or PortLimits()

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        vault, cash = world.extras["vault"], to_checksum_address(world.token(NUMERAIRE).address)
        logic = on.deploy(
            tarballs.tarball_artefact(tarballs.ACROSS, _ARTEFACTS, on.cache),
            ["address", "uint32", "uint32"],
            [world.contracts["weth"], QUOTE_BUFFER_S, FILL_BUFFER_S],
        )
        begin = calldata("initialize(uint32,address)", 0, dev_accounts()["deployer"].address)
        proxy = tarballs.tarball_artefact(tarballs.ACROSS, _PROXY, on.cache)
        pool = on.deploy(proxy, ["address", "bytes"], [logic, begin])
        on.call("deployer", cash, "mint(address,uint256)", pool, POOL_USD * USD)
        on.call(RELAYER, cash, "approve(address,uint256)", pool, 2**255)
        row = RouteRow(
            ACROSS, pool, cash, destination_of(ACROSS, CHAIN_IDS[1 - side]), world.extras[SISTER], cash, 6,
            most.one * USD, most.transit * USD, most.fee_bps, LEAST_WAIT_S,
        )  # fmt: skip
        through_timelock(on, vault, (calldata(SET_ROUTE, ACROSS_ROUTE, row.encoded()),))
        return {POOL: pool, SISTER_POOL: sister_of(on, pool, side)}

    parts = [tarballs.ACROSS.integrity, source_digest("foredrift_port")]
    digest = hashlib.sha256(repr((parts, side, most)).encode()).hexdigest()
    return Extra("across", digest, build)


@dataclass(frozen=True, slots=True)
class Deposit:
    """A deposit on chain ``origin`` for chain ``destination``, in the transaction and block that made it."""

    relay: Relay
    destination: int
    tx_hash: str
    block: int


def deposits(net: Localnet, depositor: str, first: int = 0) -> list[Deposit]:
    """Return what ``depositor`` put into the pool of ``net`` from block ``first`` on."""
    topics = [DEPOSITED, None, None, padded(depositor)]
    rpc = net.deployer.rpc
    logs = logs_between(rpc, net.world.extras[POOL], topics, first, net.node.head().number)
    made = [(deposit_of(log, net.chain_id), log) for log in logs]
    return [Deposit(r, to, str(log["transactionHash"]), int(log["blockNumber"])) for (r, to), log in made]


def fill(net: Localnet, deposit: Deposit) -> bool:
    """Let the relayer pay a deposit out on its destination ``net``; whether the pool took it."""
    me = word(dev_accounts()[RELAYER].address)
    return _sent(net, RELAYER, calldata(FILL_RELAY, deposit.relay.fields, CHAIN_IDS[0], me))


def fill_slowly(net: Localnet, deposit: Deposit, amount: int | None = None) -> bool:
    """Let somebody ask the pool of ``net`` itself to pay, and the owner let it pay ``amount`` (the output if None)."""
    if not _sent(net, RELAYER, calldata(ASK_SLOW, deposit.relay.fields)):
        return False
    paid = deposit.relay.output_amount if amount is None else amount
    leaf = deposit.relay.fields, chain(net.chain_id).chain_id, paid
    bundle = _relay_roots(net, _NOTHING, keccak(encode([SLOW_LEAF], [leaf])))
    return _sent(net, RELAYER, calldata(FILL_SLOW, leaf, bundle, []))


def refund(net: Localnet, expired: Sequence[Deposit]) -> bool:
    """Let the pool of the origin ``net`` pay expired deposits back: one sum a depositor and token, as a bundle does."""
    sums: dict[tuple[str, str], int] = {}
    for one in expired:
        key = _address(one.relay.input_token), _address(one.relay.depositor)
        sums[key] = sums.get(key, 0) + one.relay.input_amount
    done = True
    for number, ((token, who), amount) in enumerate(sums.items()):
        leaf = 0, net.chain_id, [amount], number, token, [who]
        bundle = _relay_roots(net, keccak(encode([REFUND_LEAF], [leaf])), _NOTHING)
        done = _sent(net, RELAYER, calldata(REFUND, bundle, leaf, [])) and done
    return done


def filled(net: Localnet, deposit: Deposit) -> bool:
    """Return whether the pool of the destination ``net`` keeps a deposit as paid out."""
    status = net.deployer.view(
        net.world.extras[POOL],
        "fillStatuses(bytes32)",
        "uint256",
        bytes.fromhex(deposit.relay.digest(net.chain_id)[2:]),
    )
    return status[0] == FILLED_STATUS


FILLED_STATUS = 2
"""``FillStatus.Filled`` of the contract."""


def _relay_roots(net: Localnet, refunds: bytes, slow: bytes) -> int:
    """Relay a bundle's roots as the hub would; return its number."""
    pool = net.world.extras[POOL]
    sent = net.send(DATAWORKER, pool, calldata("relayRootBundle(bytes32,bytes32)", refunds, slow))
    net.mine()
    receipt = net.receipt(sent)
    found: list[Log] = [] if receipt is None else [x for x in receipt["logs"] if is_of(x, pool, RELAYED)]  # type: ignore[attr-defined]
    if not found:
        raise ExecutionError(f"the pool {pool} took no roots from its owner")
    return int(topics_of(found[0])[1], 16)


def _sent(net: Localnet, role: str, data: bytes) -> bool:
    sent = net.send(role, net.world.extras[POOL], data)
    net.mine()
    receipt = net.receipt(sent)
    return receipt is not None and receipt["status"] == "0x1"


def _address(found: bytes) -> str:
    return str(to_checksum_address(found[12:]))

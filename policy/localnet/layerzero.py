"""LayerZero on the local chains: the published endpoint and message libraries, an OFT double on each, and who verifies.

Endpoint, SendUln302 and ReceiveUln302 are the npm packages' bytecode (``tarballs``). No package has bytecode of an OFT,
so the OFT is a double of our own (``contracts/oft_adapter.vy``) with four shared decimals of the cash's six, so that
there is dust. The paid workers of the sending side ask a flat fee (``lz_worker.vy``, ``lz_executor.vy``); the verifier
network is the development account ``identity``: whoever is configured may vouch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from eth_utils.address import to_checksum_address

from lake.evm import calldata
from lake.universe import chain
from policy.execution.bridges.base import Departed
from policy.execution.bridges.events import data_of, logs_between, word
from policy.execution.bridges.oft import COMMIT, INBOUND, LAZY, PACKET_SENT, ULN_CONFIG
from policy.execution.bridges.oft_packet import OftPacket, packet_of
from policy.execution.checks.port_rules import OFT, RouteRow
from policy.execution.contracts.compile import source_digest
from policy.execution.vaults.reference.port_state import SET_ROUTE
from policy.execution.vaults.reference.porting import destination_of
from policy.localnet import tarballs
from policy.localnet.accounts import dev_accounts
from policy.localnet.bridges import CHAIN_IDS, SISTER, USD, PortLimits, sister_of, through_timelock
from policy.localnet.deploy import Deployer
from policy.localnet.market import Localnet
from policy.localnet.world import NUMERAIRE, Extra, World

OFT_ROUTE = 3
ENDPOINT, LZ_OFT, RECEIVER, WORKER = "lz_endpoint", "lz_oft", "lz_receive_library", "lz_worker"
SHARED_DECIMALS = 4
JOB_WEI = 10**14
RECEIVE_GAS = 200_000
VERIFIER, COMMITTER = "identity", "trader"
_PACKAGES = {
    "EndpointV2": (tarballs.ENDPOINT, "artifacts/contracts/EndpointV2.sol/EndpointV2.json"),
    "SendUln302": (tarballs.MESSAGE_LIB, "artifacts/contracts/uln/uln302/SendUln302.sol/SendUln302.json"),
    "ReceiveUln302": (tarballs.MESSAGE_LIB, "artifacts/contracts/uln/uln302/ReceiveUln302.sol/ReceiveUln302.json"),
}


def layerzero(side: int, limits: PortLimits | None = None) -> Extra:
    """Return the extra that deploys LayerZero with an OFT over the cash and opens the vault's route over it.

    It follows ``bridges.bridged``. Adds ``lz_endpoint``, ``lz_oft``, ``lz_receive_library`` and ``lz_worker`` to the
    world's extras. ``side``: 0 or 1 of CHAIN_IDS.
    """
    most = limits or PortLimits()

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        vault, cash = world.extras["vault"], to_checksum_address(world.token(NUMERAIRE).address)
        here, there = (chain(CHAIN_IDS[s]) for s in (side, 1 - side))
        who = dev_accounts()
        endpoint = _published(on, "EndpointV2", ["uint32", "address"], [here.lz_eid, who["deployer"].address])
        sender = _published(on, "SendUln302", ["address", "uint256", "uint256"], [endpoint, 200_000, 10**18])
        receiver = _published(on, "ReceiveUln302", ["address"], [endpoint])
        worker = on.vyper("lz_worker", ["uint256"], [JOB_WEI])
        executor = on.vyper("lz_executor", ["uint256"], [JOB_WEI])
        for library in (sender, receiver):
            on.call("deployer", endpoint, "registerLibrary(address)", library)
        config = f"setDefaultUlnConfigs((uint32,{ULN_CONFIG})[])"
        for library, verifier in ((sender, worker), (receiver, who[VERIFIER].address)):
            on.call("deployer", library, config, [(there.lz_eid, (here.final_blocks, 1, 0, 0, [verifier], []))])
        on.call("deployer", sender, "setDefaultExecutorConfigs((uint32,(uint32,address))[])", [
            (there.lz_eid, (10_000, executor))
        ])  # fmt: skip
        on.call("deployer", endpoint, "setDefaultSendLibrary(uint32,address)", there.lz_eid, sender)
        on.call("deployer", endpoint, "setDefaultReceiveLibrary(uint32,address,uint256)", there.lz_eid, receiver, 0)
        oft = on.vyper("oft_adapter", ["address", "address", "uint8"], [cash, endpoint, SHARED_DECIMALS])
        on.call("deployer", oft, "setPeer(uint32,bytes32)", there.lz_eid, word(sister_of(on, oft, side)))
        row = RouteRow(
            OFT, oft, cash, destination_of(OFT, there.chain_id), world.extras[SISTER], cash, 6,
            most.one * USD, most.transit * USD, most.fee_bps, RECEIVE_GAS,
        )  # fmt: skip
        through_timelock(on, vault, (calldata(SET_ROUTE, OFT_ROUTE, row.encoded()),))
        return {ENDPOINT: endpoint, LZ_OFT: oft, RECEIVER: receiver, WORKER: worker}

    doubles = [source_digest(c) for c in ("oft_adapter", "lz_worker", "lz_executor", "foredrift_port")]
    parts = [
        *doubles,
        tarballs.ENDPOINT.integrity,
        tarballs.MESSAGE_LIB.integrity,
        SHARED_DECIMALS,
        JOB_WEI,
        RECEIVE_GAS,
    ]
    digest = hashlib.sha256(repr((parts, side, most)).encode()).hexdigest()
    return Extra("layerzero", digest, build)


def _published(on: Deployer, name: str, types: Sequence[str], args: Sequence[object]) -> str:
    package, path = _PACKAGES[name]
    return on.deploy(tarballs.tarball_artefact(package, path, on.cache), types, args)


def packets(net: Localnet, first: int, last: int) -> list[tuple[OftPacket, int]]:
    """Return the packets that left ``net`` in blocks ``first`` to ``last``, with their blocks."""
    logs = logs_between(net.deployer.rpc, net.world.extras[ENDPOINT], [PACKET_SENT], first, last)
    return [(packet_of(bytes(data_of(log, "bytes")[0])), int(log["blockNumber"])) for log in logs]


def executable(near: Localnet, far: Localnet, made: Departed) -> OftPacket | None:
    """Return the packet of a departure from ``near`` that the endpoint of ``far`` keeps as verified; None otherwise."""
    sent = near.receipt(made.tx_hash)
    hashes = [] if sent is None else [sent["blockNumber"]]
    for packet, block in packets(near, made.block, made.block) if hashes else ():
        mine = packet.shared * 10 ** (6 - SHARED_DECIMALS) == made.amount and block == made.block
        where = far.world.extras[LZ_OFT], packet.source, packet.sender, packet.nonce
        (kept,) = far.deployer.view(far.world.extras[ENDPOINT], INBOUND, "bytes32", *where)
        if mine and kept == packet.payload_hash:
            return packet
    return None


@dataclass
class Verifiers:
    """The verifier network of both chains: vouches on the other one for what is final on its origin.

    ``since``: heights from which on it looks. ``faults``, each struck so many times: ``down`` (it does nothing),
    ``equivocating`` (it vouches for ten times the amount, and for what left only the next time) and ``uncommitted``
    (it vouches, and nobody commits what it did).
    """

    nets: tuple[Localnet, Localnet]
    since: list[int] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.since = self.since or [net.node.head().number for net in self.nets]

    def step(self) -> int:
        """Verify whatever is due, with a block on the other chain for each; return how many packets."""
        if self._strike("down"):
            return 0
        done = 0
        for side, net in enumerate(self.nets):
            far = self.nets[1 - side]
            last = net.node.head().number - chain(net.chain_id).final_blocks
            for packet, _ in packets(net, self.since[side], last):
                if self._waits(far, packet):
                    wrong = replace(packet, shared=packet.shared * 10)
                    self._vouch(
                        far, packet, wrong.payload_hash if self._strike("equivocating") else packet.payload_hash
                    )
                    done += 1
        return done

    def _waits(self, far: Localnet, packet: OftPacket) -> bool:
        """Return whether ``far`` neither keeps the packet as it left nor has executed it."""
        endpoint, receiver = far.world.extras[ENDPOINT], far.world.extras[LZ_OFT]
        where = receiver, packet.source, packet.sender
        (kept,) = far.deployer.view(endpoint, INBOUND, "bytes32", *where, packet.nonce)
        (lazy,) = far.deployer.view(endpoint, LAZY, "uint64", *where)
        over = kept == bytes(32) and packet.nonce <= int(str(lazy))
        return kept != packet.payload_hash and not over

    def _vouch(self, far: Localnet, packet: OftPacket, payload: bytes) -> None:
        library, confirmations = far.world.extras[RECEIVER], chain(far.chain_id).final_blocks
        verify = calldata("verify(bytes,bytes32,uint64)", packet.header, payload, confirmations)
        commit = calldata(COMMIT, packet.header, payload)
        far.send(VERIFIER, library, verify)
        far.mine()
        if not self._strike("uncommitted"):
            far.send(COMMITTER, library, commit)
            far.mine()

    def _strike(self, name: str) -> bool:
        left = self.faults.get(name, 0)
        self.faults[name] = max(0, left - 1)
        return left > 0

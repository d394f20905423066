"""A Safe whose owners sign: a plan becomes a proposal, which is executed when enough of them have signed it unchanged.

Nobody's key here can move anything: who brings the signed batch only pays its gas. The register makes it land once, in
its number and before its deadline, also when the owners execute it themselves from Safe{Wallet}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from eth_abi.abi import decode
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import fields, rows
from lake.evm import BlockHeader, Call, calldata, head_of, read
from lake.rpc import Rpc
from policy.execution.base import Capabilities, Exposure, Plan, Simulation, UnsignedTx
from policy.execution.records.codec import plan_json, plan_of
from policy.execution.submission.reverts import revert_of
from policy.execution.submission.simulate_tx import dry_run
from policy.execution.vaults.safe.adapter import DELEGATECALL, EXEC, ZERO, SafeSpec, calls_of, packed, safe_tx
from policy.execution.vaults.safe.register import DEPLOY, FACTORY, LAND, SALT, creation, register_address
from policy.execution.vaults.safe.registered import RegisteredSafe

APPROVED = "approvedHashes(address,bytes32)"
ETH_SIGN = 31
"""Smallest v of a signature over the hash as a message, as some wallets make them (Safe adds 4)."""
NOTHING = Exposure(0, 0, 0)
BASE_GAS = 90_000
"""Gas of a Safe's own work around a batch, added where only its calls could be simulated."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan laid before the owners: the Safe's nonce, owners and threshold at that time, and the hash they sign."""

    plan: Plan
    safe_nonce: int
    owners: tuple[str, ...]
    threshold: int
    safe_hash: str
    made_at: int  # Unix seconds, of the plan's block

    def json(self) -> dict[str, Any]:
        """Return the proposal as JSON."""
        return {
            "plan": plan_json(self.plan), "safe_nonce": self.safe_nonce, "owners": list(self.owners),
            "threshold": self.threshold, "safe_hash": self.safe_hash, "made_at": self.made_at,
        }  # fmt: skip


def proposal_of(data: Mapping[str, Any]) -> Proposal:
    """Return the proposal :meth:`Proposal.json` wrote."""
    return Proposal(
        plan_of(data["plan"]), data["safe_nonce"], tuple(data["owners"]), data["threshold"], data["safe_hash"],
        data["made_at"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signers:
    """Who signs for a Safe now, and its next nonce."""

    owners: tuple[str, ...]
    threshold: int
    nonce: int


class ProposedSafe(RegisteredSafe):
    """A Safe signed by its owners."""

    def __init__(self, rpc: Rpc, spec: SafeSpec) -> None:
        super().__init__(rpc, spec)
        self._signed: dict[bytes, Mapping[str, bytes]] = {}  # signatures by owner, of one plan at most, by its hash

    def describe(self) -> Capabilities:
        """Return what the Safe and the register enforce: the owners' signatures, once, in time."""
        return Capabilities(
            kind="safe with proposals",
            atomic_legs=True,
            onchain_price_bound=False,  # only each router call's own minimum, which the owners sign
            loss_budget=True,  # no key of this side can lose anything
            progress_rule=False,
            plan_nonce=True,
            deadline=True,
            async_exit=False,
            in_kind_exit=False,
            pausable=True,  # its owners do not sign
            permissioned=True,
            stolen_key=NOTHING,
        )

    def signers(self, block: int | str = "latest") -> Signers:
        """Return owners, threshold and nonce at one block."""
        head = head_of(self.rpc, block)
        safe = self.spec.address
        views = [
            Call(safe, "getOwners()", "address[]"),
            Call(safe, "getThreshold()", "uint256"),
            Call(safe, "nonce()", "uint256"),
        ]
        (owners,), (threshold,), (nonce,) = read(self.rpc, views, head.hash)
        listed = tuple(str(to_checksum_address(o)) for o in cast("tuple[str, ...]", owners))
        return Signers(listed, cast("int", threshold), cast("int", nonce))

    def propose(self, plan: Plan) -> Proposal:
        """Return ``plan`` as a proposal at the Safe's next nonce."""
        told = self.signers()
        made_at = head_of(self.rpc, plan.block_number).time
        return Proposal(plan, told.nonce, told.owners, told.threshold, self.hash_at(plan, told.nonce), made_at)

    def hash_at(self, plan: Plan, nonce: int) -> str:
        """Return the hash the owners sign for ``plan`` at a nonce of the Safe."""
        signable = encode_typed_data(full_message=self.typed(plan, nonce))
        return "0x" + keccak(b"\x19" + signable.version + signable.header + signable.body).hex()

    def typed(self, plan: Plan, nonce: int) -> dict[str, Any]:
        """Return what the owners sign, EIP-712."""
        where = (self.spec.address, self.spec.multisend, self.spec.chain_id)
        return safe_tx(*where, nonce, self._multisend(plan), ZERO)

    def batch_of(self, plan: Plan) -> list[tuple[str, bytes]]:
        """Return the calls of the batch, (contract, data)."""
        land = calldata(LAND, plan.nonce, plan.deadline, self._hash(plan))
        first = [] if self._registered() else [(FACTORY, calldata(DEPLOY, creation(), SALT))]
        return [*first, (register_address(), land), *calls_of(plan)]

    def data_of(self, plan: Plan) -> bytes:
        """Return what MultiSend is called with."""
        return self._multisend(plan)

    def approvals(self, proposal: Proposal, block: int | str = "latest") -> dict[str, bytes]:
        """Return the signatures of owners who approved the hash on the chain itself."""
        asks = [
            Call(self.spec.address, APPROVED, "uint256", (o, bytes.fromhex(proposal.safe_hash[2:])))
            for o in proposal.owners
        ]
        told = read(self.rpc, asks, head_of(self.rpc, block).hash)
        return {o: approved(o) for o, (yes,) in zip(proposal.owners, told, strict=True) if yes}

    def use(self, proposal: Proposal, signatures: Mapping[str, bytes]) -> None:
        """Let :meth:`build` make the batch of ``proposal``, and of no other plan, with these signatures."""
        self._signed = {proposal.plan.plan_hash: dict(signatures)}

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the batch with the signatures there are, in rising order of address."""
        data = self._multisend(plan)
        args = (self.spec.multisend, 0, data, DELEGATECALL, 0, 0, 0, ZERO, ZERO, self._signatures(plan))
        return UnsignedTx(plan.chain_id, self.spec.address, calldata(EXEC, *args))

    def simulate(self, tx: UnsignedTx, sender: str, block: int | str = "latest") -> Simulation:
        """Execute without sending; a batch that nobody signed yet call by call, as the Safe would make them."""
        head = head_of(self.rpc, block)
        batch, signatures = _execution(tx.data)
        if signatures:
            return dry_run(self.rpc, tx, sender, self.spec.address, self.spec.tokens, head, self.spec.block_time_s)
        inner = decode(["bytes"], batch[4:])[0]
        return self._by_calls(unpacked(inner), head)

    def _by_calls(self, calls: list[tuple[str, bytes]], head: BlockHeader) -> Simulation:
        safe, tokens = self.spec.address, self.spec.tokens
        views = [Call(t.address, "balanceOf(address)", "uint256", (safe,)) for t in tokens]
        asks = [{"to": v.to, "data": v.data} for v in views]
        made = [{"from": safe, "to": to, "data": "0x" + data.hex()} for to, data in calls]
        ahead = {"number": hex(head.number + 1), "time": hex(head.time + self.spec.block_time_s)}
        body = {"blockStateCalls": [{"blockOverrides": ahead, "calls": [*asks, *made, *asks]}], "validation": False}
        what, n = "eth_simulateV1", len(tokens)
        block = rows(self.rpc.call(what, [body, hex(head.number)]), what, 1)[0]
        told = [fields(row, what) for row in fields(block, what).rows("calls", 2 * n + len(made))]
        gas = BASE_GAS + sum(row.quantity("gasUsed") for row in told[n : n + len(made)])
        bad = next((row for row in told[n : n + len(made)] if row.quantity("status", 1) != 1), None)
        if bad is not None:
            return Simulation(ok=False, gas_used=gas, deltas={}, revert=revert_of(bad))
        held = [int.from_bytes(row.data("returnData")[:32], "big") for row in (*told[:n], *told[-n:])]
        return Simulation(True, gas, {t.address: held[n + i] - held[i] for i, t in enumerate(tokens)})

    def _multisend(self, plan: Plan) -> bytes:
        return calldata("multiSend(bytes)", packed(self.batch_of(plan)))

    def _nonce(self, block_hash: str) -> int:
        return super()._nonce(block_hash) if self._registered() else 0

    def _registered(self) -> bool:
        return len(str(self.rpc.call("eth_getCode", [register_address(), "latest"]))) > len("0x")

    def _signatures(self, plan: Plan) -> bytes:
        if self.spec.owners:
            typed = self.typed(plan, self.signers().nonce)
            found: Mapping[str, bytes] = {owner: sign(typed) for owner, sign in self.spec.owners.items()}
        else:
            found = self._signed.get(plan.plan_hash, {})
        return b"".join(sig for _, sig in sorted(found.items(), key=lambda item: int(item[0], 16)))


def approved(owner: str) -> bytes:
    """Return the signature that stands for an owner's approval on the chain."""
    return bytes(12) + bytes.fromhex(owner[2:]) + bytes(32) + b"\x01"


def valid(safe_hash: str, owner: str, signature: bytes) -> bool:
    """Return whether ``signature`` is ``owner``'s over the Safe's hash: plain, or over it as a message."""
    if len(signature) != 65:
        return False
    digest, v = bytes.fromhex(safe_hash[2:]), signature[64]
    try:
        if v >= ETH_SIGN:
            signer = Account.recover_message(encode_defunct(digest), signature=signature[:64] + bytes([v - 4]))
        else:
            signer = Account._recover_hash(digest, signature=signature)  # noqa: SLF001 - the hash is made already
    except Exception:  # noqa: BLE001 - whatever is no signature recovers nobody
        return False
    return str(signer) == owner


def unpacked(batch: bytes) -> list[tuple[str, bytes]]:
    """Return the calls of a MultiSend list: (contract, data)."""
    found, at = [], 0
    while at < len(batch):
        to, size = batch[at + 1 : at + 21], int.from_bytes(batch[at + 53 : at + 85], "big")
        found.append(("0x" + to.hex(), batch[at + 85 : at + 85 + size]))
        at += 85 + size
    return found


def _execution(data: bytes) -> tuple[bytes, bytes]:
    """Return the batch and the signatures in a call of ``execTransaction``."""
    kinds = ["address", "uint256", "bytes", "uint8", "uint256", "uint256", "uint256", "address", "address", "bytes"]
    values = decode(kinds, data[4:])
    return bytes(values[2]), bytes(values[9])

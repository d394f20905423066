"""CCTP's attestation service for local chains: it signs what is final on the origin, and fails as it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eth_account import Account
from eth_utils.crypto import keccak

from lake.errors import ExecutionError
from lake.evm import head_of
from lake.rpc import Rpc
from policy.execution.bridges.attestations import Attested
from policy.execution.bridges.cctp import MESSAGE_SENT
from policy.execution.bridges.cctp_message import decoded
from policy.execution.bridges.events import data_of, is_of
from policy.execution.bridges.services import ServiceDown
from policy.execution.checks.port_rules import FAST, FINAL
from policy.execution.submission.node import read_receipt
from policy.localnet.accounts import DevAccount, attesters

EXPIRY_BLOCKS = 500
FAST_PIPS = 100
"""Fee of a fast transfer, millionths: a basis point, as from Ethereum."""


@dataclass
class LocalAttester:
    """Serves two chains by their CCTP domains: (node, transmitter, blocks until final) each.

    ``faults``, each struck so many times: ``down``, ``expired``, ``garbage``, ``equivocating`` (ten times the amount).
    """

    chains: dict[int, tuple[Rpc, str, int]]
    faults: dict[str, int] = field(default_factory=dict)
    renewed: list[bytes] = field(default_factory=list)

    def of(self, domain: int, tx_hash: str) -> Sequence[Attested]:
        """Return the messages of a transaction, signed where it is final (or fast was asked for)."""
        if self._strike("down"):
            raise ServiceDown("the attestation service did not answer: ConnectError")
        rpc, transmitter, depth = self.chains[domain]
        receipt = read_receipt(rpc, tx_hash)
        if receipt is None or receipt.status != 1:
            return ()
        age = head_of(rpc).number - receipt.block_number
        logs = [log for log in receipt.logs if is_of(log, transmitter, MESSAGE_SENT)]
        return tuple(self._signed(log, n, tx_hash, final=age >= depth) for n, log in enumerate(logs))

    def renew(self, nonce: bytes) -> None:
        """Attest anew: the next answer expires later."""
        self.renewed.append(nonce)

    def fee_pips(self, origin: int, destination: int, finality: int) -> int | None:
        """Return the fee between the two chains, None where one is not served."""
        if not {origin, destination} <= set(self.chains):
            return None
        return {FINAL: 0, FAST: FAST_PIPS}.get(finality)

    def _strike(self, name: str) -> bool:
        left = self.faults.get(name, 0)
        self.faults[name] = max(0, left - 1)
        return left > 0

    def _signed(self, log: Any, index: int, tx_hash: str, *, final: bool) -> Attested:
        raw = bytes(data_of(log, "bytes")[0])
        asked = decoded(raw)
        if not final and asked.least_finality >= FINAL:
            return Attested(raw, b"")
        try:
            head = head_of(self.chains[asked.destination][0]).number
        except KeyError:
            raise ExecutionError(f"no chain of domain {asked.destination} is served") from None
        nonce = keccak(bytes.fromhex(tx_hash[2:]) + index.to_bytes(4, "big"))
        fast = not final
        made = replace(
            asked,
            nonce=nonce,
            finality=FAST if fast else FINAL,
            fee=-(-asked.amount * FAST_PIPS // 10**6) if fast else 0,
            expires=1 if self._strike("expired") else head + EXPIRY_BLOCKS,
        )
        if self._strike("equivocating"):
            made = replace(made, amount=made.amount * 10)
        message = made.encoded()
        signatures = b"".join(_signature(message, a) for a in attesters())
        return Attested(message, bytes(len(signatures)) if self._strike("garbage") else signatures)


def _signature(message: bytes, account: DevAccount) -> bytes:
    return bytes(Account.unsafe_sign_hash(keccak(message), account.key).signature)

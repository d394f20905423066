"""The Safe Transaction Service: where owners see what is proposed and leave their signatures.

Its documented REST interface, version 2: POST safes/ADDRESS/multisig-transactions/, GET multisig-transactions/HASH/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from eth_utils.address import is_address, to_checksum_address

from lake.errors import ExecutionError
from lake.json_text import parsed
from lake.transport import mask
from policy.execution.vaults.safe.adapter import DELEGATECALL, ZERO
from policy.execution.vaults.safe.proposal import Proposal, valid

TIMEOUT_S = 20.0
ORIGIN = "Foredrift"
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class SafeService:
    """The service at ``url``; ``api_key`` is sent as a bearer token where there is one."""

    url: str = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    transport: httpx.BaseTransport | None = field(default=None, repr=False)

    def propose(self, proposal: Proposal, multisend: str, data: bytes, sender: str, signature: bytes) -> None:
        """Lay a proposal before the owners, as ``sender`` (an owner or a delegate); ExecutionError where it is refused.

        The same proposal may be sent again: the service keeps one of a hash.
        """
        safe = to_checksum_address(proposal.plan.vault)
        body = payload(proposal, multisend, data, sender, signature)
        answer = self._ask("POST", f"api/v2/safes/{safe}/multisig-transactions/", body)
        if answer.is_error:
            raise ExecutionError(f"the Safe service {mask(self.url)} refused the proposal: {_words(answer)}")

    def confirmations(self, proposal: Proposal) -> dict[str, bytes]:
        """Return the owners' signatures of this very hash; those that are not theirs, or of others, are left out."""
        answer = self._ask("GET", f"api/v2/multisig-transactions/{proposal.safe_hash}/")
        if answer.status_code == NOT_FOUND:
            return {}
        if answer.is_error:
            raise ExecutionError(f"the Safe service {mask(self.url)} does not tell: {_words(answer)}")
        try:
            told = parsed(answer.content)
            rows = [(str(c["owner"]), bytes.fromhex(str(c["signature"])[2:])) for c in told.get("confirmations") or []]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExecutionError(f"the Safe service {mask(self.url)} sent no list of signatures: {error!r}") from None
        signed = {str(to_checksum_address(o)): s for o, s in rows if is_address(o)}
        return {o: s for o, s in signed.items() if o in proposal.owners and valid(proposal.safe_hash, o, s)}

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        headers = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        try:
            with httpx.Client(transport=self.transport, timeout=TIMEOUT_S, headers=headers) as http:
                return http.request(method, f"{self.url.rstrip('/')}/{path}", json=body)
        except httpx.HTTPError as error:
            raise ExecutionError(f"the Safe service {mask(self.url)} did not answer: {type(error).__name__}") from None


def payload(proposal: Proposal, multisend: str, data: bytes, sender: str, signature: bytes) -> dict[str, Any]:
    """Return a proposal as the service takes it."""
    return {
        "safe": to_checksum_address(proposal.plan.vault), "to": multisend, "value": 0, "data": "0x" + data.hex(),
        "operation": DELEGATECALL, "gasToken": ZERO, "safeTxGas": 0, "baseGas": 0, "gasPrice": 0,
        "refundReceiver": ZERO, "nonce": proposal.safe_nonce, "contractTransactionHash": proposal.safe_hash,
        "sender": sender, "signature": "0x" + signature.hex(), "origin": ORIGIN,
    }  # fmt: skip


def _words(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text[:200]}".strip()

"""Deploying and calling on a development node that signs for its own accounts, one block a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from lake.errors import ExecutionError, RpcError
from lake.evm import Call, calldata, read
from lake.rpc import Rpc, quantity
from policy.execution.contracts.compile import contract
from policy.localnet.accounts import dev_accounts
from policy.localnet.packages import Artefact, artefact

_GAS = hex(16_000_000)


@dataclass(frozen=True, slots=True)
class Deployer:
    """Sends from unlocked accounts of ``rpc`` (the node itself, not its front), by role name."""

    rpc: Rpc
    cache: Path | None = None

    def send(self, role: str, to: str | None, data: bytes, value: int = 0) -> Mapping[str, object]:
        """Send and return the receipt; ExecutionError with the node's reason when it reverts."""
        tx = {"from": dev_accounts()[role].address, "data": "0x" + data.hex(), "value": hex(value), "gas": _GAS}
        if to is not None:
            tx["to"] = to
        sent = self.rpc.call("eth_sendTransaction", [tx])
        self.rpc.call("evm_mine")
        receipt = self.rpc.call("eth_getTransactionReceipt", [sent])
        if not isinstance(receipt, dict):
            raise ExecutionError(f"transaction {sent} was not mined in the next block; is another sender in its way?")
        if quantity(receipt["status"]) != 1:
            raise ExecutionError(f"transaction to {to} failed: {self._reason(tx)}")
        return receipt

    def call(self, role: str, to: str, signature: str, *args: object, value: int = 0) -> Mapping[str, object]:
        """Call ``signature`` of ``to`` with ``args``; return the receipt."""
        return self.send(role, to, calldata(signature, *args), value)

    def deploy(
        self, what: Artefact, types: Sequence[str] = (), args: Sequence[object] = (), *, role: str = "deployer"
    ) -> str:
        """Create ``what`` with constructor ``args`` of ABI ``types``; return its checksummed address."""
        receipt = self.send(role, None, what.bytecode + encode(types, args))
        return to_checksum_address(str(receipt["contractAddress"]))

    def package(self, name: str, types: Sequence[str] = (), args: Sequence[object] = ()) -> str:
        """Deploy a published contract of packages.ARTEFACTS; return its address."""
        return self.deploy(artefact(name, self.cache), types, args)

    def vyper(self, name: str, types: Sequence[str] = (), args: Sequence[object] = ()) -> str:
        """Deploy ``contracts/<name>.vy``; return its address."""
        made = contract(name)
        return self.deploy(Artefact(name, made.abi, made.bytecode), types, args)

    def view(self, to: str, signature: str, returns: str, *args: object) -> tuple[object, ...]:
        """Return the decoded values of a view call at the newest block."""
        return read(self.rpc, [Call(to, signature, returns, args)])[0]

    def _reason(self, tx: Mapping[str, str]) -> str:
        try:
            self.rpc.call("eth_call", [tx, "latest"])
        except RpcError as error:
            return f"{error} {error.data or ''}"
        return "no reason given"

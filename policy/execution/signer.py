"""The only file that sees a key: an encrypted keystore, or an external signer that keeps the key to itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lake.errors import ConfigError, ExecutionError, RpcError
from lake.rpc import Rpc, mask

PASSPHRASE_VARIABLE = "FOREDRIFT_PASSPHRASE"  # noqa: S105 # nosec B105 - the name of a variable, not a secret


@dataclass(frozen=True, slots=True)
class TxRequest:
    """An EIP-1559 transaction ready to sign; wei and gas units."""

    chain_id: int
    to: str
    data: bytes = field(repr=False)
    value: int
    nonce: int
    gas_limit: int
    max_fee_wei: int
    tip_wei: int


@dataclass(frozen=True, slots=True)
class SignedTx:
    """Signed bytes and the hash the chain will know them by."""

    raw: bytes = field(repr=False)
    tx_hash: str


class Signer(Protocol):
    """Signs for one account."""

    address: str

    def sign(self, tx: TxRequest) -> SignedTx:
        """Return the signed transaction."""
        ...

    def sign_message(self, text: str) -> str:
        """Return the EIP-191 signature of ``text`` as 0x hex (relay headers)."""
        ...


def from_environment() -> str:
    """Return the passphrase in FOREDRIFT_PASSPHRASE; ConfigError without one."""
    phrase = os.environ.get(PASSPHRASE_VARIABLE)
    if not phrase:
        raise ConfigError(f"the keystore needs its passphrase in the environment variable {PASSPHRASE_VARIABLE}")
    return phrase


def create_keystore(path: Path, passphrase: str, key: bytes | None = None, *, iterations: int | None = None) -> str:
    """Write an encrypted keystore (a fresh key where none is given), readable by its owner only; return its address.

    An existing file is never overwritten (ConfigError). ``iterations`` weakens the encryption for local chains.
    """
    from eth_account import Account  # late: 0.6 s

    account = Account.from_key(key) if key is not None else Account.create()
    store = Account.encrypt(account.key, passphrase, "pbkdf2" if iterations else None, iterations)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; a keystore is never overwritten") from None
    with os.fdopen(handle, "w") as file:
        json.dump(store, file)
    return str(account.address)


class KeystoreSigner:
    """Signs with a key from an encrypted keystore file (Web3 Secret Storage, as geth and eth-account write it).

    ``passphrase`` is called once. The key stays in this object; nothing prints it.
    """

    def __init__(self, path: Path, passphrase: Callable[[], str] = from_environment) -> None:
        from eth_account import Account  # late: 0.6 s

        try:
            store = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"keystore {path.name} cannot be read: {type(error).__name__}") from None
        try:
            self.__account = Account.from_key(Account.decrypt(store, passphrase()))
        except (ValueError, KeyError, TypeError, NotImplementedError):
            # the cause is cut: it could hold the passphrase or key
            raise ConfigError(f"keystore {path.name} does not open; check the file and its passphrase") from None
        self.address: str = self.__account.address

    def __repr__(self) -> str:
        return f"KeystoreSigner({self.address}, key hidden)"

    def __reduce__(self) -> str:
        raise ExecutionError("a signer is never copied, pickled or sent elsewhere")

    def sign(self, tx: TxRequest) -> SignedTx:
        """Return the signed transaction."""
        signed = self.__account.sign_transaction(_fields(tx))
        return SignedTx(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())

    def sign_message(self, text: str) -> str:
        """Return the EIP-191 signature of ``text``."""
        from eth_account.messages import encode_defunct

        return "0x" + bytes(self.__account.sign_message(encode_defunct(text=text)).signature).hex()

    def sign_typed(self, typed: Mapping[str, Any]) -> bytes:
        """Return the signature (r, s, v) of EIP-712 typed data."""
        return bytes(self.__account.sign_typed_data(full_message=dict(typed)).signature)


class ExternalSigner:
    """Signs through ``eth_signTransaction`` of a signer service (web3signer, clef); the key never comes here."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        self._rpc = rpc
        self.address = address

    def __repr__(self) -> str:
        return f"ExternalSigner({self.address} at {', '.join(mask(u) for u in self._rpc.urls)})"

    def sign(self, tx: TxRequest) -> SignedTx:
        """Return the signed transaction after checking that exactly ``tx`` was signed by ``address``."""
        answer = self._rpc.call("eth_signTransaction", [_rpc_fields(tx, self.address)])
        text = answer.get("raw") if isinstance(answer, dict) else answer  # clef wraps, web3signer does not
        if not isinstance(text, str) or not text.startswith("0x"):
            raise RpcError("eth_signTransaction: the signer returned no signed transaction")
        raw = bytes.fromhex(text[2:])
        _require_same(raw, tx, self.address)
        from eth_utils.crypto import keccak

        return SignedTx(raw, "0x" + keccak(raw).hex())

    def sign_message(self, text: str) -> str:
        """Return the signer's EIP-191 signature of ``text``."""
        return str(self._rpc.call("eth_sign", [self.address, "0x" + text.encode().hex()]))

    def sign_typed(self, typed: Mapping[str, Any]) -> bytes:
        """Return the signature of EIP-712 typed data (``eth_signTypedData_v4``), checked to be ``address``'s."""
        from eth_account import Account
        from eth_account.messages import encode_typed_data
        from eth_keys.exceptions import BadSignature
        from eth_utils.exceptions import ValidationError

        message = {k: "0x" + v.hex() if isinstance(v, bytes) else v for k, v in typed["message"].items()}
        answer = self._rpc.call("eth_signTypedData_v4", [self.address, {**typed, "message": message}])
        try:
            signature = bytes.fromhex(str(answer).removeprefix("0x"))
            signer = Account.recover_message(encode_typed_data(full_message=dict(typed)), signature=signature)
        except (ValueError, IndexError, BadSignature, ValidationError):
            raise RpcError("eth_signTypedData_v4: the signer returned no signature") from None
        if signer.lower() != self.address.lower():
            raise ExecutionError("the external signer signed something else than it was asked to; nothing was sent")
        return signature


def _fields(tx: TxRequest) -> dict[str, Any]:
    from eth_utils.address import to_checksum_address

    return {
        "type": 2,
        "chainId": tx.chain_id,
        "to": to_checksum_address(tx.to),
        "data": tx.data,
        "value": tx.value,
        "nonce": tx.nonce,
        "gas": tx.gas_limit,
        "maxFeePerGas": tx.max_fee_wei,
        "maxPriorityFeePerGas": tx.tip_wei,
    }


def _rpc_fields(tx: TxRequest, sender: str) -> dict[str, str]:
    return {
        "from": sender,
        "to": tx.to,
        "data": "0x" + tx.data.hex(),
        "value": hex(tx.value),
        "nonce": hex(tx.nonce),
        "gas": hex(tx.gas_limit),
        "maxFeePerGas": hex(tx.max_fee_wei),
        "maxPriorityFeePerGas": hex(tx.tip_wei),
        "chainId": hex(tx.chain_id),
        "type": "0x2",
    }


def _require_same(raw: bytes, tx: TxRequest, sender: str) -> None:
    """Raise ExecutionError unless ``raw`` is ``tx`` signed by ``sender``."""
    from eth_account import Account
    from eth_account.typed_transactions.typed_transaction import TypedTransaction
    from hexbytes import HexBytes

    decoded = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    got = TxRequest(
        int(decoded["chainId"]),
        "0x" + bytes(decoded["to"]).hex(),
        bytes(decoded["data"]),
        int(decoded["value"]),
        int(decoded["nonce"]),
        int(decoded["gas"]),
        int(decoded["maxFeePerGas"]),
        int(decoded["maxPriorityFeePerGas"]),
    )
    wanted = TxRequest(
        tx.chain_id, tx.to.lower(), tx.data, tx.value, tx.nonce, tx.gas_limit, tx.max_fee_wei, tx.tip_wei
    )
    if got != wanted or Account.recover_transaction(raw).lower() != sender.lower():
        raise ExecutionError("the external signer signed something else than it was asked to; nothing was sent")

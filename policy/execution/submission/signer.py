"""The only file that sees a key: an encrypted keystore, or an external signer that keeps the key to itself."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from lake.errors import ConfigError, ExecutionError, RpcError
from lake.private import private_folder
from lake.rpc import Rpc, mask
from policy.execution.submission.shield import shielded

PASSPHRASE_VARIABLE = "FOREDRIFT_PASSPHRASE"  # noqa: S105 # nosec B105 - the name of a variable, not a secret
OTHERS = stat.S_IRWXG | stat.S_IRWXO
SOMETHING_ELSE = "the external signer signed something else than it was asked to; nothing was sent"


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
    given, what = (passphrase, key, iterations), f"{path.name}: the key or passphrase is none"
    passphrase, key = "", None  # an error report shows this frame
    try:
        address, store = shielded(lambda: _encrypted(*given), ConfigError, what)
    finally:
        given = ("", None, None)
    private_folder(path.parent)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists already; a keystore is never overwritten") from None
    with os.fdopen(handle, "w") as file:
        json.dump(store, file)
    return address


def keystore_address(path: Path) -> str:
    """Return whose key an encrypted keystore holds, as its own text says, without opening it; ConfigError where it
    says nothing of the kind.
    """
    from eth_utils.address import to_checksum_address

    _private(path)
    try:
        told = json.loads(path.read_text())["address"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"keystore {path.name} says no address: {type(error).__name__}") from None
    if not isinstance(told, str) or re.fullmatch("(0x)?[0-9a-fA-F]{40}", told) is None:
        raise ConfigError(f"keystore {path.name} says no address")
    return str(to_checksum_address("0x" + told.removeprefix("0x")))


def _encrypted(passphrase: str, key: bytes | None, iterations: int | None) -> tuple[str, dict[str, Any]]:
    """Return the address and the encrypted keystore of ``key``."""
    from eth_account import Account  # late: 0.6 s

    account = Account.from_key(key) if key is not None else Account.create()
    return str(account.address), Account.encrypt(account.key, passphrase, "pbkdf2" if iterations else None, iterations)


def _held(account: Any) -> Callable[[Callable[[Any], Any]], Any]:
    """Return a function that hands ``account`` to its argument; nothing that lists an object's fields finds the key."""

    def use(work: Callable[[Any], Any]) -> Any:
        return work(account)

    return use


class KeystoreSigner:
    """Signs with a key from an encrypted keystore file (Web3 Secret Storage, as geth and eth-account write it).

    ``passphrase`` is called once. The key stays in this object; nothing prints it, and nothing that fails here carries
    it away in its frames. A file that others may read is refused (ConfigError).
    """

    address: str = ""  # until the keystore is open

    def __init__(self, path: Path, passphrase: Callable[[], str] = from_environment) -> None:
        _private(path)
        try:
            store = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"keystore {path.name} cannot be read: {type(error).__name__}") from None

        def opened() -> tuple[str, Callable[[Callable[[Any], Any]], Any]]:
            from eth_account import Account  # late: 0.6 s

            account = Account.from_key(Account.decrypt(store, passphrase()))
            return str(account.address), _held(account)

        what = f"keystore {path.name} does not open; check the file and its passphrase"
        self.address, self.__use = shielded(opened, ConfigError, what)

    def __repr__(self) -> str:
        return f"KeystoreSigner({self.address or 'not open'}, key hidden)"

    def __reduce__(self) -> str:
        raise ExecutionError("a signer is never copied, pickled or sent elsewhere")

    def sign(self, tx: TxRequest) -> SignedTx:
        """Return the signed transaction; ExecutionError names the fields of a request that is none."""
        fields = _fields(tx)
        signed = self._do(lambda account: account.sign_transaction(fields), "the transaction cannot be signed")
        return SignedTx(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())

    def sign_message(self, text: str) -> str:
        """Return the EIP-191 signature of ``text``."""
        from eth_account.messages import encode_defunct

        signed = self._do(lambda account: account.sign_message(encode_defunct(text=text)), "no text to sign")
        return "0x" + bytes(signed.signature).hex()

    def sign_typed(self, typed: Mapping[str, Any]) -> bytes:
        """Return the signature (r, s, v) of EIP-712 typed data."""
        signed = self._do(
            lambda account: account.sign_typed_data(full_message=dict(typed)), "the typed data cannot be signed"
        )
        return bytes(signed.signature)

    def _do(self, work: Callable[[Any], Any], what: str) -> Any:
        return shielded(lambda: self.__use(work), ExecutionError, what)


def _private(path: Path) -> None:
    """Raise ConfigError where others than its owner may read or change the keystore."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(f"keystore {path.name} cannot be read: {type(error).__name__}") from None
    if mode & OTHERS:
        raise ConfigError(
            f"keystore {path.name} has mode {mode:04o}: others than its owner can get at it; run `chmod 600 {path}`"
        )


def plain_http(url: str) -> bool:
    """Return whether ``url`` goes unencrypted to another machine (http:// to a host that is not this one)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    try:
        near = ip_address(host).is_loopback
    except ValueError:
        near = host == "localhost" or host.endswith(".localhost")
    return parts.scheme.lower() in {"http", "ws"} and not near


class ExternalSigner:
    """Signs through ``eth_signTransaction`` of a signer service (web3signer, clef); the key never comes here."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        self._rpc = rpc
        self.address = address
        for url in rpc.urls:
            if plain_http(url):
                logging.getLogger("foredrift").warning(
                    "the signer at %s is asked without encryption: whoever is on the way reads and may delay what is "
                    "to be signed; use https:// or a tunnel to this machine",
                    mask(url),
                )

    def __repr__(self) -> str:
        return f"ExternalSigner({self.address} at {', '.join(mask(u) for u in self._rpc.urls)})"

    def sign(self, tx: TxRequest) -> SignedTx:
        """Return the signed transaction after checking that exactly ``tx`` was signed by ``address``."""
        answer = self._rpc.call("eth_signTransaction", [_rpc_fields(tx, self.address)])
        text = answer.get("raw") if isinstance(answer, dict) else answer  # clef wraps, web3signer does not
        raw = _hex_bytes(text, "eth_signTransaction", "signed transaction")
        _require_same(raw, tx, self.address)
        from eth_utils.crypto import keccak

        return SignedTx(raw, "0x" + keccak(raw).hex())

    def sign_message(self, text: str) -> str:
        """Return the signer's EIP-191 signature of ``text``, checked to be ``address``'s over exactly these bytes."""
        from eth_account.messages import encode_defunct

        answer = self._rpc.call("eth_sign", [self.address, "0x" + text.encode().hex()])
        signature = _hex_bytes(answer, "eth_sign", "signature")
        _require_signer(encode_defunct(text=text), signature, self.address, "eth_sign")
        return "0x" + signature.hex()

    def sign_typed(self, typed: Mapping[str, Any]) -> bytes:
        """Return the signature of EIP-712 typed data (``eth_signTypedData_v4``), checked to be ``address``'s."""
        from eth_account.messages import encode_typed_data

        message = {k: "0x" + v.hex() if isinstance(v, bytes) else v for k, v in typed["message"].items()}
        answer = self._rpc.call("eth_signTypedData_v4", [self.address, {**typed, "message": message}])
        signature = _hex_bytes(answer, "eth_signTypedData_v4", "signature")
        _require_signer(encode_typed_data(full_message=dict(typed)), signature, self.address, "eth_signTypedData_v4")
        return signature


def _hex_bytes(answer: object, method: str, what: str) -> bytes:
    """Return the bytes of a signer's answer; RpcError where it is no 0x hex."""
    if not isinstance(answer, str) or re.fullmatch(r"0x(?:[0-9a-fA-F]{2})+", answer) is None:
        raise RpcError(f"{method}: the signer returned no {what}")
    return bytes.fromhex(answer[2:])


def _require_signer(message: Any, signature: bytes, address: str, method: str) -> None:
    """Raise unless ``signature`` over ``message`` is ``address``'s: RpcError where it is no signature at all."""
    from eth_account import Account
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    try:
        signer = Account.recover_message(message, signature=signature)
    except (ValueError, TypeError, IndexError, BadSignature, ValidationError):
        raise RpcError(f"{method}: the signer returned no signature") from None
    if signer.lower() != address.lower():
        raise ExecutionError(SOMETHING_ELSE)


def _faults(tx: TxRequest) -> list[str]:
    """Return what is wrong with the fields of ``tx``, in words."""
    top = 2**256
    bounds: dict[str, tuple[Any, int, int]] = {
        "chain_id": (tx.chain_id, 1, 2**64), "value": (tx.value, 0, top), "nonce": (tx.nonce, 0, 2**64 - 1),
        "gas_limit": (tx.gas_limit, 1, 2**64), "max_fee_wei": (tx.max_fee_wei, 0, top), "tip_wei": (tx.tip_wei, 0, top),
    }  # fmt: skip
    to: Any = tx.to
    data: Any = tx.data
    wrong = [
        f"{name} is {value!r}, required is a whole number from {low} to below {high}"
        for name, (value, low, high) in bounds.items()
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < high
    ]
    if not isinstance(to, str) or re.fullmatch("0x[0-9a-fA-F]{40}", to) is None:
        wrong.append(f"to is {to!r}, required is an address")
    if not isinstance(data, bytes):
        wrong.append(f"data is {type(data).__name__}, required is bytes")
    return wrong


def _fields(tx: TxRequest) -> dict[str, Any]:
    from eth_utils.address import to_checksum_address

    wrong = _faults(tx)
    if wrong:
        raise ExecutionError(f"the transaction cannot be signed: {'; '.join(wrong)}")
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
    """Raise ExecutionError unless ``raw`` is, byte for byte, ``tx`` with a signature of ``sender`` added.

    The signature is taken out of ``raw`` and put under our own payload: type, access list and whatever else another
    kind of transaction may carry differ in the bytes then.
    """
    from eth_account import Account
    from eth_account.typed_transactions.typed_transaction import TypedTransaction
    from hexbytes import HexBytes

    wanted = _fields(tx)
    try:
        v, r, s = TypedTransaction.from_bytes(HexBytes(raw)).vrs()
        same = TypedTransaction.from_dict({**wanted, "v": v, "r": r, "s": s}).encode() == raw
        signer = Account.recover_transaction(raw)
    except Exception:  # noqa: BLE001 - decoders raise a dozen kinds; bytes that do not decode are not ours
        same, signer = False, ""
    if not same or signer.lower() != sender.lower():
        raise ExecutionError(SOMETHING_ELSE)

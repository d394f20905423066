"""The key and who signs: what leaves a process that fails, and what an external signer can slip in."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

from eth_account import Account
from eth_utils.address import to_checksum_address

from lake.errors import ForedriftError
from lake.rpc import FakeTransport, Rpc
from policy.execution.submission.signer import ExternalSigner, KeystoreSigner, TxRequest, create_keystore
from tests.attacks.outcome import Attack, Outcome

KEY = bytes.fromhex("4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d")
PHRASE = "PASSPHRASE-XYZ"
TO = to_checksum_address("0x" + "ab" * 20)
TX = TxRequest(1, TO, b"\x01\x02", 0, 7, 100_000, 10**9, 10**8)
FIELDS = {"type": 2, "chainId": 1, "to": TO, "data": b"\x01\x02", "value": 0, "nonce": 7, "gas": 100_000,
          "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 10**8}  # fmt: skip


def opened(folder: Path) -> KeystoreSigner:
    """Return a signer of a fresh keystore."""
    path = folder / "keys" / "k.json"
    create_keystore(path, PHRASE, KEY, iterations=2)
    return KeystoreSigner(path, lambda: PHRASE)


def leaks(text: str) -> list[str]:
    """Return which secrets ``text`` holds."""
    forms = {"key": (KEY.hex(), str(KEY), str(list(KEY)), str(int.from_bytes(KEY, "big"))), "passphrase": (PHRASE,)}
    return [name for name, found in forms.items() if any(f in text or f in text.lower() for f in found)]


def frames(error: BaseException | None) -> Iterator[str]:
    """Yield the names of everything that holds a secret in the frames of an error and of those it came from."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__") == __name__:
                continue
            for name, value in frame.f_locals.items():
                try:
                    text = repr(value)
                except Exception as broken:
                    text = f"{type(broken).__name__} of a half-built object {PHRASE}"
                if leaks(text):
                    yield f"{frame.f_code.co_name}.{name}"
        error = error.__cause__ or error.__context__


def in_frames(folder: Path) -> Outcome:
    """Let signing fail in every way; look for the key in the locals an error reporter would upload."""
    signer = opened(folder)
    bad = {"nonce": -1, "tip_wei": 10**30, "gas_limit": 2**300, "data": "zz", "to": "nobody", "value": 2**300}
    from dataclasses import replace

    acts = [lambda f=f, v=v: signer.sign(replace(TX, **{f: v})) for f, v in bad.items()]
    acts += [
        lambda: signer.sign_typed({"types": {}, "message": {}}),
        lambda: signer.sign_message(None),
        lambda: KeystoreSigner(folder / "keys" / "k.json", lambda: PHRASE + " "),
        lambda: KeystoreSigner(folder / "keys" / "k.json", lambda: 3),
        lambda: create_keystore(folder / "other.json", PHRASE, KEY + b"\1"),
    ]
    found, quiet = [], 0
    for act in acts:
        try:
            act()
        except Exception as error:
            found += frames(error)
        else:
            quiet += 1
    return Outcome(
        not found, f"{len(found)} frames of {len(acts) - quiet} errors hold it: {', '.join(found[:3])}".rstrip(": ")
    )


def by_printing(folder: Path) -> Outcome:
    """Print, copy and pickle a signer; sign with every log open."""
    signer, log = opened(folder), io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(log)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        signer.sign(TX)
        root.info("%s %r", signer, signer)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    slots = [str(getattr(signer, n, "")) for n in dir(signer) if not n.startswith("__")]
    said = [repr(signer), str(signer), f"{signer}", log.getvalue(), *slots]
    for act in (lambda: pickle.dumps(signer), lambda: str(vars(copy.deepcopy(signer))), lambda: str(vars(signer))):
        try:
            said.append(str(act()))
        except Exception as error:
            said.append(str(error))
    found = [name for text in said for name in leaks(text)]
    return Outcome(not found, f"{len(found)} of {len(said)} texts hold a secret")


def slipped_in(_folder: Path) -> Outcome:
    """An external signer adds to, or changes, what it was asked to sign."""
    address = Account.from_key(KEY).address
    hop = Account.from_key(KEY).sign_authorization({"chainId": 0, "address": "0x" + "cd" * 20, "nonce": 9})
    extra = [{"address": TO, "storageKeys": ["0x" + "00" * 32] * 20}]
    legacy = {k: v for k, v in FIELDS.items() if k not in {"type", "maxFeePerGas", "maxPriorityFeePerGas"}}
    wrong = {
        "a delegation (EIP-7702)": {**FIELDS, "type": 4, "accessList": [], "authorizationList": [hop]},
        "an access list": {**FIELDS, "accessList": extra},
        "a legacy transaction": {**legacy, "gasPrice": 10**9},
        "EIP-2930": {**legacy, "type": 1, "gasPrice": 10**9, "accessList": []},
        **{f"another {k}": {**FIELDS, k: v} for k, v in
           {"nonce": 8, "chainId": 5, "maxFeePerGas": 2 * 10**9, "value": 1, "data": b"\1\3", "gas": 99_999}.items()},
    }  # fmt: skip

    def asked(answer: object) -> bool:
        signer = ExternalSigner(
            Rpc(["http://localhost"], transport=FakeTransport({"eth_signTransaction": answer})), address
        )
        try:
            signer.sign(TX)
        except ForedriftError:
            return False
        return True

    def signed(fields: dict, key: bytes = KEY) -> str:
        return "0x" + bytes(Account.from_key(key).sign_transaction(fields).raw_transaction).hex()

    taken = [what for what, fields in wrong.items() if asked(signed(fields))]
    taken += ["another's signature"] if asked(signed(FIELDS, b"\2" * 32)) else []
    taken += ["bytes after the end"] if asked(signed(FIELDS) + "00") else []
    honest = asked(signed(FIELDS))
    return Outcome(
        honest and not taken, f"{len(taken)} of {len(wrong) + 2} changes taken: {', '.join(taken)}".rstrip(": ")
    )


def messages(_folder: Path) -> Outcome:
    """An external signer answers a message with anything; the way to it is open to others."""
    address, taken = Account.from_key(KEY).address, []
    from eth_account.messages import encode_defunct

    other = Account.from_key(KEY).sign_message(encode_defunct(text="another"))
    for answer in ("0xdeadbeef", "0x", "0x" + bytes(other.signature).hex(), None, 7):
        reply = FakeTransport({"eth_sign": answer, "personal_sign": answer})
        try:
            ExternalSigner(Rpc(["http://localhost"], transport=reply), address).sign_message("x")
        except ForedriftError:
            continue
        taken.append(str(answer)[:10])
    own = "0x" + bytes(Account.from_key(KEY).sign_message(encode_defunct(text="x")).signature).hex()
    reply = FakeTransport({"eth_sign": own, "personal_sign": own})
    honest = bool(ExternalSigner(Rpc(["http://localhost"], transport=reply), address).sign_message("x"))
    return Outcome(honest and not taken, f"{len(taken)} of 5 false signatures of a message taken")


def plain_http(_folder: Path) -> Outcome:
    """A remote signer is asked over http without a word."""
    try:
        from policy.execution.submission.signer import plain_http as told
    except ImportError:
        return Outcome(held=False, figure="nothing is said")
    remote, own = told("http://signer.example.org/token"), told("http://127.0.0.1:8550")
    return Outcome(bool(remote) and not own, "said for a remote host, not for this machine")


def open_file(folder: Path) -> Outcome:
    """A keystore that others may read, by group or all, or in a folder they may write."""
    opened(folder)
    path, taken = folder / "keys" / "k.json", []
    for mode in (0o644, 0o640, 0o604, 0o660, 0o622):
        path.chmod(mode)
        try:
            KeystoreSigner(path, lambda: PHRASE)
        except ForedriftError:
            continue
        taken.append(f"{mode:o}")
    return Outcome(not taken, f"opened at {', '.join(taken) or 'no'} mode of 5")


ATTACKS = [
    Attack("M6 key in frames", "signing fails: what an error report uploads", "folder", in_frames),
    Attack("held: key in print", "repr, logs, copies, pickles", "folder", by_printing),
    Attack("M7 slipped in", "an external signer signs something more", "folder", slipped_in),
    Attack("M7 messages", "an external signer's false message signature", "folder", messages),
    Attack("M7 plain http", "a remote signer without TLS", "folder", plain_http),
    Attack("L7 open keystore", "a keystore others may read", "folder", open_file),
]

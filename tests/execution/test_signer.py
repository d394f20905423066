"""Keys: only from a keystore or an external signer, never printed, and nothing but the asked transaction is signed."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from lake.errors import ConfigError, ExecutionError, RpcError
from lake.rpc import FakeTransport, Rpc
from policy.execution.submission.signer import (
    ExternalSigner,
    KeystoreSigner,
    TxRequest,
    create_keystore,
    from_environment,
    plain_http,
)
from policy.execution.vaults.safe.adapter import safe_tx

PHRASE = "correct horse"
KEY = "0x" + "11" * 32
TX = TxRequest(31_337, "0x" + "22" * 20, b"\x01\x02", 0, 5, 100_000, 3 * 10**9, 10**9)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keeper.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PHRASE, kdf="pbkdf2", iterations=2)))
    path.chmod(0o600)
    return path


def test_it_signs_the_transaction_and_hides_the_key(keystore):
    signer = KeystoreSigner(keystore, lambda: PHRASE)
    signed = signer.sign(TX)
    assert Account.recover_transaction(signed.raw) == signer.address == Account.from_key(KEY).address
    assert signer.sign(TX) == signed  # deterministic: the same request is the same transaction
    for text in (repr(signer), str(signer), repr(signed), repr(TX), str(vars(type(signer)))):
        assert KEY[2:] not in text.lower()
    with pytest.raises(ExecutionError, match="never copied"):
        pickle.dumps(signer)
    text = "hello"
    recovered = Account.recover_message(encode_defunct(text=text), signature=signer.sign_message(text))
    assert recovered == signer.address


def test_a_wrong_passphrase_or_file_says_nothing_of_either(keystore, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="does not open") as caught:
        KeystoreSigner(keystore, lambda: "wrong horse")
    assert "wrong horse" not in str(caught.value)
    assert caught.value.__cause__ is None
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "none.json"):
        with pytest.raises(ConfigError):
            KeystoreSigner(tmp_path / name, lambda: PHRASE)
    monkeypatch.delenv("FOREDRIFT_PASSPHRASE", raising=False)
    with pytest.raises(ConfigError, match="FOREDRIFT_PASSPHRASE"):
        from_environment()
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    assert KeystoreSigner(keystore).address


def external(keystore, change=None, wrap=False):
    inner = KeystoreSigner(keystore, lambda: PHRASE)

    def sign(fields):
        asked = TxRequest(
            int(fields["chainId"], 16),
            fields["to"],
            bytes.fromhex(fields["data"][2:]),
            int(fields["value"], 16),
            int(fields["nonce"], 16),
            int(fields["gas"], 16),
            int(fields["maxFeePerGas"], 16),
            int(fields["maxPriorityFeePerGas"], 16),
        )
        raw = "0x" + inner.sign(change(asked) if change else asked).raw.hex()
        return {"raw": raw, "tx": {}} if wrap else raw

    rpc = Rpc("http://signer/token", transport=FakeTransport({"eth_signTransaction": sign}))
    return ExternalSigner(rpc, inner.address), inner


@pytest.mark.parametrize("wrap", [True, False])
def test_an_external_signer_gives_the_same_bytes(keystore, wrap):
    outer, inner = external(keystore, wrap=wrap)
    assert outer.sign(TX) == inner.sign(TX)
    assert "token" not in repr(outer)


@pytest.mark.parametrize("field", ["chain_id", "to", "data", "value", "nonce", "gas_limit", "max_fee_wei", "tip_wei"])
def test_an_external_signer_that_signs_something_else_is_refused(keystore, field):
    value = {"to": "0x" + "33" * 20, "data": b"\x09"}.get(field, getattr(TX, field) if field in {"to", "data"} else 1)
    outer, _ = external(keystore, change=lambda tx: replace(tx, **{field: value}))
    with pytest.raises(ExecutionError, match="something else"):
        outer.sign(TX)


def test_an_external_signer_that_answers_nonsense_is_an_rpc_error(keystore):
    rpc = Rpc("http://signer", transport=FakeTransport({"eth_signTransaction": None}))
    with pytest.raises(RpcError, match="no signed transaction"):
        ExternalSigner(rpc, "0x" + "44" * 20).sign(TX)


TYPED = safe_tx("0x" + "11" * 20, "0x" + "22" * 20, 31_337, 4, b"\x01\x02", "0x" + "33" * 20)


def test_typed_data_is_signed_alike_by_keystore_and_external_signer(keystore):
    inner = KeystoreSigner(keystore, lambda: PHRASE)
    rpc = Rpc(
        "http://signer", transport=FakeTransport({"eth_signTypedData_v4": lambda _, t: _hex(inner.sign_typed(t))})
    )
    signature = ExternalSigner(rpc, inner.address).sign_typed(TYPED)
    assert signature == inner.sign_typed(TYPED)
    assert Account.recover_message(encode_typed_data(full_message=TYPED), signature=signature) == inner.address


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _, t: _hex(Account.sign_typed_data("0x" + "55" * 32, full_message=t).signature), ExecutionError),
        (None, RpcError),
        ("0x", RpcError),
        ("0x" + "00" * 65, RpcError),
        ("0x" + "01" * 64, RpcError),
    ],
)
def test_a_typed_signature_of_another_key_or_of_nonsense_is_refused(keystore, answer, error):
    rpc = Rpc("http://signer", transport=FakeTransport({"eth_signTypedData_v4": answer}))
    with pytest.raises(error):
        ExternalSigner(rpc, KeystoreSigner(keystore, lambda: PHRASE).address).sign_typed(TYPED)


def _hex(data) -> str:
    return "0x" + bytes(data).hex()


SECRETS = (KEY[2:], str(int(KEY, 16)), PHRASE, repr(bytes.fromhex(KEY[2:]))[2:-1])


def leaks(error: BaseException, seen: set[int] | None = None) -> list[str]:
    """Local variables that hold a secret, in every frame of the error, its cause and its context."""
    seen = set() if seen is None else seen
    if id(error) in seen:
        return []
    seen.add(id(error))
    found = [f"args {a!r}" for a in error.args if any(s in repr(a) for s in SECRETS)]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name.startswith("test_"):
            continue  # what the test itself knows
        for name, value in frame.f_locals.items():
            texts = [repr(value), *(repr(v) for v in getattr(value, "__dict__", {}).values())]
            if any(s in t for s in SECRETS for t in texts):
                found.append(f"{frame.f_code.co_name}: {name}")
    for other in (error.__cause__, error.__context__):
        found += leaks(other, seen) if other is not None else []
    return found


class Raising:
    """A library call that fails while it holds the key."""

    def __init__(self, error):
        self.error = error

    def __call__(self, account, *args, **kwargs):
        private_key = account.key  # noqa: F841 - what the libraries do
        try:
            raise KeyError("the first fault")
        except KeyError:
            raise self.error  # noqa: B904 - with a context


@pytest.mark.parametrize("error", [ValueError(KEY), TypeError("x"), MemoryError(), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("method", ["sign_transaction", "sign_message", "sign_typed_data"])
def test_an_error_or_an_interruption_while_signing_leaves_the_key_in_no_frame(keystore, monkeypatch, method, error):
    from eth_account.signers.local import LocalAccount

    signer = KeystoreSigner(keystore, lambda: PHRASE)
    monkeypatch.setattr(LocalAccount, method, lambda self, *a, **k: Raising(error)(self))
    calls = {
        "sign_transaction": lambda: signer.sign(TX),
        "sign_message": lambda: signer.sign_message("x"),
        "sign_typed_data": lambda: signer.sign_typed(TYPED),
    }
    expected = ExecutionError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected) as caught:
        calls[method]()
    assert leaks(caught.value) == []
    assert isinstance(error, Exception) or caught.value is error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nonce", -1), ("nonce", 2**64), ("nonce", True), ("chain_id", 0), ("value", -1), ("gas_limit", 2**300),
        ("gas_limit", 0), ("max_fee_wei", -5), ("tip_wei", -1), ("to", "0x12"), ("data", "zz"), ("nonce", 1.5),
    ],
)  # fmt: skip
def test_a_request_that_is_no_transaction_names_its_field_and_never_meets_the_key(keystore, field, value):
    signer = KeystoreSigner(keystore, lambda: PHRASE)
    with pytest.raises(ExecutionError, match=field) as caught:
        signer.sign(replace(TX, **{field: value}))
    assert leaks(caught.value) == []


@pytest.mark.parametrize("typed", [{}, {"types": {}, "message": {}}, {**TYPED, "primaryType": "Nothing"}])
def test_typed_data_that_is_none_leaves_no_key(keystore, typed):
    with pytest.raises(ExecutionError, match="typed data") as caught:
        KeystoreSigner(keystore, lambda: PHRASE).sign_typed(typed)
    assert leaks(caught.value) == []


def test_a_signer_that_did_not_open_can_be_printed_and_shows_neither_passphrase_nor_key(keystore, tmp_path):
    with pytest.raises(ConfigError) as caught:
        KeystoreSigner(keystore, lambda: "wrong " + PHRASE)
    assert caught.value.__context__ is None
    assert leaks(caught.value) == []
    traceback.TracebackException.from_exception(caught.value, capture_locals=True)  # prints the half-built signer
    assert "not open" in repr(KeystoreSigner.__new__(KeystoreSigner))

    def asked():
        raise ConfigError("no passphrase")

    with pytest.raises(ConfigError, match="no passphrase"):
        KeystoreSigner(keystore, asked)
    (tmp_path / "file").write_text("")
    for path, key in ((tmp_path / "file" / "k.json", bytes.fromhex(KEY[2:])), (tmp_path / "k.json", b"too short")):
        with pytest.raises((OSError, ConfigError)) as failed:
            create_keystore(path, PHRASE, key, iterations=2)
        assert leaks(failed.value) == []
    assert not (tmp_path / "k.json").exists()


def test_nothing_that_lists_the_fields_of_a_signer_finds_the_key(keystore):
    signer = KeystoreSigner(keystore, lambda: PHRASE)
    texts = [repr(v) for v in vars(signer).values()]
    texts += [repr(w) for v in vars(signer).values() for w in getattr(v, "__dict__", {}).values()]
    assert not any(s in t for s in SECRETS for t in texts)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o620, 0o601])
def test_a_keystore_that_others_can_get_at_is_refused_with_the_command_that_helps(keystore, mode):
    keystore.chmod(mode)
    try:
        with pytest.raises(ConfigError, match=f"{mode:04o}.*chmod 600"):
            KeystoreSigner(keystore, lambda: PHRASE)
    finally:
        keystore.chmod(0o600)
    assert KeystoreSigner(keystore, lambda: PHRASE).address


def answering(method, answer, address=Account.from_key(KEY).address):
    return ExternalSigner(Rpc("http://127.0.0.1/x", transport=FakeTransport({method: answer})), address)


def other_kinds():
    base = {
        "chainId": TX.chain_id, "to": "0x" + "22" * 20, "data": TX.data, "value": 0, "nonce": TX.nonce,
        "gas": TX.gas_limit,
    }  # fmt: skip
    fees = {"maxFeePerGas": TX.max_fee_wei, "maxPriorityFeePerGas": TX.tip_wei}
    access = [{"address": "0x" + "22" * 20, "storageKeys": ["0x" + "00" * 32]}]
    authorised = Account.from_key(KEY).sign_authorization({"chainId": 0, "address": "0x" + "33" * 20, "nonce": 6})
    return {
        "access list": {**base, **fees, "type": 2, "accessList": access},
        "delegation of the account": {**base, **fees, "type": 4, "accessList": [], "authorizationList": [authorised]},
        "older fee kind": {**base, "type": 1, "gasPrice": TX.max_fee_wei, "accessList": []},
        "oldest kind": {**base, "gasPrice": TX.max_fee_wei},
    }


@pytest.mark.parametrize("kind", other_kinds())
def test_an_external_signer_that_answers_with_another_kind_of_transaction_is_refused(kind):
    raw = _hex(Account.from_key(KEY).sign_transaction(other_kinds()[kind]).raw_transaction)
    with pytest.raises(ExecutionError, match="something else"):
        answering("eth_signTransaction", raw).sign(TX)


def test_every_changed_byte_of_the_signed_answer_is_refused(keystore):
    raw = KeystoreSigner(keystore, lambda: PHRASE).sign(TX).raw
    assert answering("eth_signTransaction", _hex(raw)).sign(TX).raw == raw
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1
        with pytest.raises(ExecutionError, match="something else"):
            answering("eth_signTransaction", _hex(changed)).sign(TX)
    for other in (raw + b"\0", raw[:-1], b"\x04" + raw[1:]):
        with pytest.raises(ExecutionError, match="something else"):
            answering("eth_signTransaction", _hex(other)).sign(TX)
    for nonsense in ("0xzz", "0x1", "0x", 7, None, {"raw": None}):
        with pytest.raises(RpcError, match="no signed transaction"):
            answering("eth_signTransaction", nonsense).sign(TX)


def test_a_message_signature_must_be_the_signers_over_exactly_this_text(keystore):
    inner = KeystoreSigner(keystore, lambda: PHRASE)
    assert answering("eth_sign", inner.sign_message("hello")).sign_message("hello") == inner.sign_message("hello")
    with pytest.raises(ExecutionError, match="something else"):
        answering("eth_sign", inner.sign_message("hello!")).sign_message("hello")
    stranger = Account.from_key("0x" + "55" * 32).sign_message(encode_defunct(text="hello")).signature
    with pytest.raises(ExecutionError, match="something else"):
        answering("eth_sign", _hex(stranger)).sign_message("hello")
    for nonsense in (None, "0xdeadbeef", "0x" + "00" * 65, "signed", 5):
        with pytest.raises(RpcError, match="no signature"):
            answering("eth_sign", nonsense).sign_message("hello")


def test_an_unencrypted_way_to_another_machine_is_said_and_masked(caplog):
    near = (
        "http://127.0.0.1:9000",
        "http://localhost",
        "http://[::1]:9",
        "http://signer.localhost",
        "https://far.example",
    )
    far = ("http://signer.example/tok", "HTTP://10.0.0.5:9000/tok", "http://127.example.org", "ws://signer.example")
    assert [plain_http(u) for u in near] == [False] * len(near)
    assert [plain_http(u) for u in far] == [True] * len(far)
    with caplog.at_level(logging.WARNING, logger="foredrift"):
        ExternalSigner(Rpc(["https://far.example/tok"]), "0x" + "44" * 20)
        assert not caplog.records
        ExternalSigner(Rpc(["http://signer.example/tok"]), "0x" + "44" * 20)
    assert "without encryption" in caplog.text
    assert "tok" not in caplog.text

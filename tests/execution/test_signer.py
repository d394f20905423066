"""Keys: only from a keystore or an external signer, never printed, and nothing but the asked transaction is signed."""

from __future__ import annotations

import json
import pickle

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from lake.errors import ConfigError, ExecutionError, RpcError
from lake.rpc import FakeTransport, Rpc
from policy.execution.safe import safe_tx
from policy.execution.signer import ExternalSigner, KeystoreSigner, TxRequest, from_environment

PHRASE = "correct horse"
KEY = "0x" + "11" * 32
TX = TxRequest(31_337, "0x" + "22" * 20, b"\x01\x02", 0, 5, 100_000, 3 * 10**9, 10**9)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keeper.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PHRASE, kdf="pbkdf2", iterations=2)))
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
    from dataclasses import replace

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

"""Secrets of services come from files that nobody else may read; no message holds one."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import ConfigError
from pipelines.monitor.notify import notify
from pipelines.scheduled.chat import VARIABLE, take_token
from pipelines.secret_files import read, secret
from pipelines.setting_sources import VARIABLES, strangers
from pipelines.settings import Settings, notify_urls, safe_api_key

NAME = "FOREDRIFT_TEST_SECRET"


def kept(path, text: str, mode: int = 0o600):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@given(
    text=st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1),
    end=st.sampled_from(["", "\n", "\r\n", "  "]),
)
def test_a_file_gives_what_the_variable_would(tmp_path_factory, text, end):
    file = kept(tmp_path_factory.getbasetemp() / "secret", text + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NAME + "_FILE", file)
        assert secret(NAME) == read(NAME + "_FILE") == text
        patch.setenv(NAME, "the variable wins")
        assert secret(NAME) == "the variable wins"


def test_nothing_given_is_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv(NAME, raising=False)
    assert secret(NAME) is None
    monkeypatch.setenv(NAME + "_FILE", kept(tmp_path / "empty", "\n"))
    assert secret(NAME) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused_without_its_content(tmp_path, monkeypatch, mode):
    monkeypatch.setenv(NAME + "_FILE", kept(tmp_path / "open", "hunter2", mode))
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        secret(NAME)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("what", ["absent", "folder", "bytes"])
def test_a_file_that_cannot_be_read_is_named_by_its_variable(tmp_path, monkeypatch, what):
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bytes").chmod(0o600)
    monkeypatch.setenv(NAME + "_FILE", str(tmp_path / what))
    with pytest.raises(ConfigError, match=f"{NAME}_FILE cannot be read"):
        secret(NAME)


def test_an_open_descriptor_is_a_file_too(monkeypatch):
    out, into = os.pipe()
    threading.Thread(target=lambda: (os.write(into, b"from a pipe\n"), os.close(into))).start()
    monkeypatch.setenv(NAME + "_FILE", f"/dev/fd/{out}")
    try:
        assert secret(NAME) == "from a pipe"
    finally:
        os.close(out)


def test_notifications_the_safe_service_and_the_chat_take_theirs_from_files(tmp_path, monkeypatch):
    for name in ("FOREDRIFT_NOTIFY", "FOREDRIFT_SAFE_API_KEY", VARIABLE):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(f"{name}_FILE", kept(tmp_path / name, f"json://a/{name} json://b\n"))
        assert name in VARIABLES
        assert f"{name}_FILE" in VARIABLES
    assert notify_urls() == ["json://a/FOREDRIFT_NOTIFY", "json://b"]
    assert str(safe_api_key()).startswith("json://a/FOREDRIFT_SAFE")
    assert str(take_token()).startswith("json://a/FOREDRIFT_TELEGRAM")
    assert strangers(Settings, {n: "" for n in os.environ if n.startswith("FOREDRIFT_") and n in VARIABLES}) == []


def test_a_notification_whose_addresses_cannot_be_read_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("FOREDRIFT_NOTIFY", raising=False)
    monkeypatch.setenv("FOREDRIFT_NOTIFY_FILE", str(tmp_path / "gone"))
    assert notify("failed", "x", "y") is False

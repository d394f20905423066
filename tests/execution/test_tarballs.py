"""Bytecode out of a published npm archive: fetched once, held to its hash, and said where it cannot be had."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile

import pytest

from lake.errors import ExecutionError
from policy.localnet import tarballs
from policy.localnet.packages import NoNode
from policy.localnet.tarballs import ACROSS, ENDPOINT, MESSAGE_LIB, Tarball, tarball, tarball_artefact


def packed(path, code: object = "0x6001") -> str:
    """Write an archive with one artefact; return its integrity."""
    raw = json.dumps({"abi": [], "bytecode": code}).encode()
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("package/out/Thing.json")
        entry.size = len(raw)
        archive.addfile(entry, io.BytesIO(raw))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def npm_that(monkeypatch, tmp_path, script: str) -> None:
    """Let a shell script stand for npm."""
    tool = tmp_path / "bin" / "npm"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(tarballs.shutil, "which", lambda _: str(tool))


@pytest.mark.parametrize("code", ["0x6001", "6001", {"object": "0x6001"}])
def test_an_artefact_is_read_out_of_the_archive(tmp_path, code):
    what = Tarball("@who/thing", "1.0.0", "sha512-none")
    place = tmp_path / "tarballs"
    place.mkdir()
    packed(place / "who-thing-1.0.0.tgz", code)
    found = tarball_artefact(what, "out/Thing.json", tmp_path)
    assert (found.name, found.bytecode) == ("Thing", b"\x60\x01")
    with pytest.raises(ExecutionError, match="has no 'out/Other.json'"):
        tarball_artefact(what, "out/Other.json", tmp_path)


def test_it_is_fetched_once_and_another_file_is_refused(tmp_path, monkeypatch):
    source = tmp_path / "there.tgz"
    integrity = packed(source)
    npm_that(monkeypatch, tmp_path, f'echo "$@" >> {tmp_path}/asked; cp {source} who-thing-1.0.0.tgz')
    right = Tarball("@who/thing", "1.0.0", integrity)
    with pytest.raises(ExecutionError, match="it is another file"):
        tarball(Tarball("@who/thing", "1.0.0", "sha512-AAAA"), tmp_path)
    assert not list((tmp_path / "tarballs").glob("*.tgz")), "nothing is kept of it"
    for _ in range(2):
        assert tarball(right, tmp_path).read_bytes() == source.read_bytes()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["pack --silent --ignore-scripts @who/thing@1.0.0"] * 2, "once refused, once kept"


def test_a_registry_that_does_not_answer_is_said(tmp_path, monkeypatch):
    npm_that(monkeypatch, tmp_path, "echo no route to host >&2; exit 1")
    with pytest.raises(ExecutionError, match="is a registry reachable.*no route to host"):
        tarball(Tarball("@who/thing", "1.0.0", "sha512-"), tmp_path)


def test_without_npm_the_tests_of_the_local_chain_skip(tmp_path, monkeypatch):
    monkeypatch.setattr(tarballs.shutil, "which", lambda _: None)
    with pytest.raises(NoNode, match="npm on the PATH"):
        tarball(Tarball("@who/thing", "1.0.0", "sha512-"), tmp_path)


def test_every_archive_is_named_by_version_and_hash():
    for what in (ACROSS, ENDPOINT, MESSAGE_LIB):
        assert what.file == f"{what.package[1:].replace('/', '-')}-{what.version}.tgz"
        assert len(base64.b64decode(what.integrity.removeprefix("sha512-"))) == 64

"""Bytecode out of a published wheel: fetched once, held to its hash, and said where it cannot be had."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest

from lake.errors import ExecutionError
from policy.localnet.wheels import LAGOON, NoWheel, Wheel, wheel, wheel_artefact


def made(folder, code: object = "0x6001") -> Wheel:
    """A wheel with one artefact, in the cache of ``folder`` already."""
    path = folder / "file.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("abi/Thing.json", json.dumps({"abi": [], "bytecode": code}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    place = folder / "wheels" / digest[:16]
    place.mkdir(parents=True)
    path.rename(place / path.name)
    return Wheel("thing==1.0", "file.whl", digest)


@pytest.mark.parametrize("code", ["0x6001", "6001", {"object": "0x6001"}])
def test_an_artefact_is_read_out_of_the_archive(tmp_path, code):
    what = made(tmp_path, code)
    found = wheel_artefact(what, "abi/Thing.json", tmp_path)
    assert (found.name, found.bytecode) == ("Thing", b"\x60\x01")
    with pytest.raises(ExecutionError, match="has no 'abi/Other.json'"):
        wheel_artefact(what, "abi/Other.json", tmp_path)


def test_an_index_that_does_not_answer_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(NoWheel, match="is a package index reachable"):
        wheel(Wheel("no-such-thing-anywhere==9.9", "no.whl", "0" * 64), tmp_path)
    assert [p for p in (tmp_path / "wheels").iterdir() if p.is_dir()] == []


def test_a_file_of_another_hash_is_refused(tmp_path, monkeypatch):
    name = "thing-1.0-py3-none-any.whl"
    links = tmp_path / "links"
    links.mkdir()
    with zipfile.ZipFile(links / name, "w") as archive:
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    with pytest.raises(ExecutionError, match="it is another file"):
        wheel(Wheel("thing==1.0", name, "0" * 64), tmp_path)
    digest = hashlib.sha256((links / name).read_bytes()).hexdigest()
    assert wheel(Wheel("thing==1.0", name, digest), tmp_path).read_bytes() == (links / name).read_bytes()


def test_the_wheel_of_lagoon_is_named_by_version_and_hash():
    assert LAGOON.requirement == "web3-ethereum-defi==1.2"
    assert len(LAGOON.sha256) == 64

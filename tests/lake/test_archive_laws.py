"""Laws of the archive: what was written comes back to the byte, and nothing else is taken for an archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lake.archive import FORMAT, MANIFEST, ArchiveMember, unpack, write_archive
from lake.errors import DataError, StoreError

names = st.lists(st.from_regex(r"[a-z]{1,6}(/[a-z0-9.]{1,6}[a-z])?", fullmatch=True), unique=True, max_size=5).filter(
    lambda found: not any(a != b and b.startswith(a + "/") for a in found for b in found) and MANIFEST not in found
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=names, data=st.data())
def test_every_member_comes_back_to_the_byte_for_its_owner_only(tmp_path_factory, found, data):
    folder = tmp_path_factory.mktemp("a")
    content = {name: data.draw(st.binary(max_size=3_000)) for name in found}
    on_disk = folder / "source"
    members = []
    for i, (name, body) in enumerate(content.items()):
        if i % 2:
            members.append(ArchiveMember(name, body))
        else:
            on_disk.mkdir(exist_ok=True)
            (on_disk / str(i)).write_bytes(body)
            members.append(ArchiveMember(name, on_disk / str(i)))
    made = write_archive(folder / "b.tar.gz", members, {"made": "today"})
    back = unpack(folder / "b.tar.gz", folder / "out")
    assert back == made
    assert back.about == {"made": "today"}
    assert {n: (folder / "out" / n).read_bytes() for n in content} == content
    assert back.members == {n: (len(b), hashlib.sha256(b).hexdigest()) for n, b in content.items()}
    for path in [folder / "b.tar.gz", *(folder / "out" / n for n in content)]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_grows_meanwhile_is_taken_as_long_as_it_was(tmp_path, monkeypatch):
    log = tmp_path / "log"
    log.write_bytes(b"one\n" * 1_000)
    real = os.fstat

    def grown(handle):
        found = real(handle)
        with log.open("ab") as more:
            more.write(b"two\n")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", grown)
        write_archive(tmp_path / "b.tar.gz", [ArchiveMember("log", log)], {})
    unpack(tmp_path / "b.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "log").read_bytes() == b"one\n" * 1_000


def test_an_archive_is_never_written_over_and_holds_no_name_twice(tmp_path):
    target = tmp_path / "b.tar.gz"
    with pytest.raises(StoreError, match="a would be twice in the archive"):
        write_archive(target, [ArchiveMember("a", b"1"), ArchiveMember("a", b"2")], {})
    assert not target.exists()
    write_archive(target, [ArchiveMember("a", b"1")], {})
    before = target.read_bytes()
    with pytest.raises(StoreError, match="a backup is never overwritten"):
        write_archive(target, [ArchiveMember("a", b"2")], {})
    assert target.read_bytes() == before


def test_of_two_that_write_at_once_the_second_is_told_and_the_first_stands(tmp_path):
    target = tmp_path / "b.tar.gz"

    def members():
        yield ArchiveMember("a", b"mine")
        target.write_bytes(b"theirs")

    with pytest.raises(StoreError, match="another run wrote it"):
        write_archive(target, members(), {})
    assert target.read_bytes() == b"theirs"


def forged(path: Path, members: list[tuple[str, bytes]], manifest: object) -> Path:
    """A tar of these members; ``manifest`` None leaves it out, bytes are taken as they are."""
    with tarfile.open(path, "w:gz") as tar:
        body = manifest if isinstance(manifest, bytes | None) else json.dumps(manifest).encode()
        for name, content in [*members, *([] if body is None else [(MANIFEST, body)])]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def listed(**members: bytes) -> dict:
    rows = {n: [len(b), hashlib.sha256(b).hexdigest()] for n, b in members.items()}
    return {"format": FORMAT, "about": {}, "members": rows}


@pytest.mark.parametrize(
    ("members", "manifest", "words"),
    [
        ([("a", b"1")], None, "has no manifest: it is no backup, or was cut short"),
        ([("a", b"1")], b"{", "its manifest cannot be read"),
        ([("a", b"1")], b"[]", "its manifest cannot be read"),
        ([("a", b"1")], {"format": 1, "about": {}}, "its manifest cannot be read"),
        ([("a", b"1")], {"format": 1, "about": {}, "members": {"a": [1]}}, "its manifest cannot be read"),
        ([("a", b"1")], listed(a=b"1") | {"format": FORMAT + 1}, "install a newer foredrift"),
        ([("a", b"2")], listed(a=b"1"), r"a is not what was backed up \(1 such\)"),
        ([("a", b"1"), ("b", b"2")], listed(a=b"1"), "b is not what was backed up"),
        ([("a", b"1")], listed(a=b"1", b=b"2"), "b is not what was backed up"),
        ([("a", b"1"), ("a", b"1")], listed(a=b"1"), "'a' is no file that a backup holds"),
        ([("../a", b"1")], listed(), "is no file that a backup holds"),
        ([("a\\b", b"1")], listed(), "is no file that a backup holds"),
    ],
)
def test_what_is_no_archive_of_ours_says_why_and_restores_nothing(tmp_path, members, manifest, words):
    with pytest.raises(DataError, match=words) as refused:
        unpack(forged(tmp_path / "b.tar.gz", members, manifest), tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"text", gzip.compress(b"no tar", mtime=0), gzip.compress(b"x" * 2_000, mtime=0)[:-9]],
    ids=["empty", "text", "no tar", "cut"],
)
def test_any_other_file_is_no_backup(tmp_path, content):
    file = tmp_path / "b.tar.gz"
    file.write_bytes(content)
    with pytest.raises(DataError, match="is no backup, or is damaged|has no manifest"):
        unpack(file, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_the_folder_s_fault_and_not_the_archive_s(tmp_path):
    write_archive(tmp_path / "b.tar.gz", [ArchiveMember("a", b"1")], {})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("mine")
    with pytest.raises(StoreError, match="cannot be unpacked into .*: File exists"):
        unpack(tmp_path / "b.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "mine"

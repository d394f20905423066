"""One file that holds a project's files with their checksums: written whole or not at all, read back without trust.

A tar, compressed, of ``manifest.json`` and the members it lists by name, size and sha256. Nothing in it is run, linked
or placed outside the folder it is unpacked into.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from lake.errors import DataError, StoreError
from lake.private import opener, private_folder

FORMAT = 1
MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 256 << 20  # bytes


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file to archive: its name in the archive, and where its bytes are, or the bytes themselves."""

    name: str
    source: Path | bytes


@dataclass(frozen=True, slots=True)
class Archived:
    """What an archive says of itself: ``about`` as it was given, and (bytes, sha256) by member."""

    about: Mapping[str, Any]
    members: Mapping[str, tuple[int, str]]


def write_archive(path: Path, members: Iterable[ArchiveMember], about: Mapping[str, Any]) -> Archived:
    """Write ``members`` and ``about`` to ``path``, for its owner only; raises StoreError where ``path`` is there.

    A kill leaves no file of that name, at most one that ends in ``.part``, which the next run replaces. A member that
    grows meanwhile (a log) is taken as long as it was when it was opened.
    """
    if path.exists():
        raise StoreError(f"{path} is there already; name another file, or move it away: a backup is never overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    listed: dict[str, tuple[int, str]] = {}
    with open(part, "wb", opener=opener) as raw:
        with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=1) as tar:
            for member in members:
                if member.name in listed:
                    raise StoreError(f"{member.name} would be twice in the archive")
                listed[member.name] = _add(tar, member)
            manifest = {"format": FORMAT, "about": about, "members": listed}
            _add(tar, ArchiveMember(MANIFEST, (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()))
        raw.flush()
        os.fsync(raw.fileno())
    try:
        os.link(part, path)  # fails where another run made it meanwhile
    except FileExistsError:
        raise StoreError(f"{path} is there already; another run wrote it") from None
    part.unlink()
    return Archived(about, listed)


def _add(tar: tarfile.TarFile, member: ArchiveMember) -> tuple[int, str]:
    info = tarfile.TarInfo(member.name)
    info.mode = 0o600
    if isinstance(member.source, bytes):
        info.size = len(member.source)
        tar.addfile(info, io.BytesIO(member.source))
        return info.size, hashlib.sha256(member.source).hexdigest()
    with member.source.open("rb") as file:
        stat = os.fstat(file.fileno())
        info.size, info.mtime = stat.st_size, stat.st_mtime
        hashed = _Hashed(file)
        tar.addfile(info, hashed)  # type: ignore[arg-type]  # only read is asked of it
    return info.size, hashed.digest.hexdigest()


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def unpack(path: Path, folder: Path) -> Archived:
    """Unpack the archive ``path`` into ``folder`` and return what it says; every byte is checked against its sha256.

    Raises DataError where it is no archive of this kind, of a newer format, damaged, or holds what is not listed.
    """
    found: dict[str, tuple[int, str]] = {}
    manifest: bytes | None = None
    try:
        with tarfile.open(path, mode="r:gz") as tar:
            for info in tar:
                if not info.isreg() or info.name in found or not _inside(info.name):
                    raise DataError(f"{path}: {info.name!r} is no file that a backup holds; nothing was restored")
                stream = tar.extractfile(info)
                assert stream is not None
                if info.name == MANIFEST:
                    manifest = stream.read(_LARGEST_MANIFEST)
                else:
                    found[info.name] = _extract(stream, folder / info.name)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, tarfile.ReadError) and error.errno is not None:
            raise StoreError(f"{path} cannot be unpacked into {folder}: {error.strerror}") from error
        raise DataError(f"{path} is no backup, or is damaged ({error}); nothing was restored") from error
    said = _manifest(path, manifest)
    wrong = sorted(n for n in found.keys() | said.members.keys() if found.get(n) != said.members.get(n))
    if wrong:
        raise DataError(f"{path}: {wrong[0]} is not what was backed up ({len(wrong)} such); nothing was restored")
    return said


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name


def _extract(stream: IO[bytes], target: Path) -> tuple[int, str]:
    private_folder(target.parent)
    digest, size = hashlib.sha256(), 0
    with open(target, "xb", opener=opener) as out:
        while data := stream.read(_CHUNK):
            digest.update(data)
            size += len(data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    return size, digest.hexdigest()


def _manifest(path: Path, data: bytes | None) -> Archived:
    if data is None:
        raise DataError(f"{path} has no manifest: it is no backup, or was cut short; nothing was restored")
    try:
        found = json.loads(data)
        kind = int(found["format"])
        members = {str(n): (int(size), str(sha)) for n, (size, sha) in found["members"].items()}
        about = dict(found["about"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: its manifest cannot be read; nothing was restored") from error
    if kind > FORMAT:
        raise DataError(f"{path} is of format {kind}, this version reads up to {FORMAT}; install a newer foredrift")
    return Archived(about, members)

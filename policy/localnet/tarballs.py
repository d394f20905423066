"""Contracts whose npm package is large or drags others in: its one archive is fetched and read, nothing is installed.

An archive is named by package, version and the registry's sha512; another file is refused. No script of it runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lake.errors import ExecutionError
from lake.locks import exclusive
from policy.localnet.packages import Artefact, NoNode, cache_dir


@dataclass(frozen=True, slots=True)
class Tarball:
    """One published npm archive: package, version, and the registry's ``integrity`` of it."""

    package: str
    version: str
    integrity: str

    @property
    def file(self) -> str:
        """The archive's name, as npm writes it."""
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"


ACROSS = Tarball(
    "@across-protocol/contracts",
    "4.1.12",
    "sha512-+d1xTLBxGNHDMuZDMaZPunDb46SYzAsIfqrwK6252cP0+9dG7XFX+6hBXpeqyytp7ESe+W8UgpGQdSCxXAdhkw==",
)
"""SpokePool as on the main chains since 2025 (19 MB; AGPL-3.0)."""
ENDPOINT = Tarball(
    "@layerzerolabs/lz-evm-protocol-v2",
    "3.0.168",
    "sha512-1m9uZDcROJrFjjFZ06J6kmXIqFoJ4r2VH95bL5wsKjkmffNrRYyxbTr2pael7EP8dcq55HpCKc9dg4G1SfTOVQ==",
)
"""LayerZero's endpoint (0.1 MB; LZBL-1.2)."""
MESSAGE_LIB = Tarball(
    "@layerzerolabs/lz-evm-messagelib-v2",
    "3.0.168",
    "sha512-tNrpfDu9nhB+/onG3Qzby0PFqi21HpW9dI9oa4HulW5/VfiMQllj2gKOX+BEemokdq2JQhAHvj8dTkp0euXPPg==",
)
"""LayerZero's sending and receiving libraries (0.3 MB; LZBL-1.2)."""


def tarball(what: Tarball, cache: Path | None = None) -> Path:
    """Return the archive's path, fetched first where needed (one process at a time), its hash checked.

    Raises NoNode without npm, ExecutionError where it cannot be had or is another file.
    """
    root = (cache or cache_dir()) / "tarballs"
    path = root / what.file
    if path.exists():
        return path
    npm = shutil.which("npm")
    if npm is None:
        raise NoNode(f"fetching {what.package} needs npm on the PATH; install Node.js 20 or newer from nodejs.org")
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / "lock"):
        if not path.exists():
            _fetch(npm, what, path)
    return path


def _fetch(npm: str, what: Tarball, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", f"{what.package}@{what.version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        found = Path(folder) / what.file
        if done.returncode or not found.exists():
            tail = ((done.stderr or done.stdout).strip().splitlines() or ["nothing"])[-1]
            raise ExecutionError(f"npm could not fetch {what.package}; is a registry reachable? It said: {tail}")
        digest = base64.b64encode(hashlib.sha512(found.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != what.integrity:
            raise ExecutionError(f"{what.file} has sha512-{digest}, {what.integrity} is required: it is another file")
        found.replace(path)


@lru_cache(maxsize=16)
def tarball_artefact(what: Tarball, name: str, cache: Path | None = None) -> Artefact:
    """Return interface and bytecode of the artefact at ``name`` below the package; ExecutionError if it has none."""
    with tarfile.open(tarball(what, cache)) as archive:
        try:
            file = archive.extractfile(f"package/{name}")
        except KeyError:
            file = None
        if file is None:
            raise ExecutionError(f"{what.file} has no {name!r}")
        raw = json.loads(file.read())
    code = raw["bytecode"]
    code = code if isinstance(code, str) else code["object"]
    return Artefact(Path(name).stem, raw["abi"], bytes.fromhex(code.removeprefix("0x")))

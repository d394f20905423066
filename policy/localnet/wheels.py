"""Contracts published in a Python package only: fetched as a wheel by name and hash, read as artefacts, not imported.

The package itself cannot live beside this project's web3; its files are taken out of the archive one by one.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lake.errors import ExecutionError
from lake.locks import exclusive
from policy.localnet.packages import Artefact, cache_dir


class NoWheel(ExecutionError):
    """The wheel is not in the cache and no package index serves it here."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One published wheel: its requirement for pip, its file's name and sha256."""

    requirement: str
    file: str
    sha256: str


LAGOON = Wheel(
    "web3-ethereum-defi==1.2",
    "web3_ethereum_defi-1.2-py3-none-any.whl",
    "906579bfdb25d9aaa906543ce55a9d62e21a545e196e0230cb467c8b4406869d",
)
"""Carries the bytecode of Lagoon v0.5 (33 MB; contracts under BUSL-1.1, which allows use that is not production)."""


def wheel(what: Wheel, cache: Path | None = None) -> Path:
    """Return the wheel's path, fetched first where needed (one process at a time), its hash checked.

    Raises NoWheel with pip's last line where it cannot be had, ExecutionError where the file is another one.
    """
    root = (cache or cache_dir()) / "wheels"
    path = root / what.sha256[:16] / what.file
    if path.exists():
        return path
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / "lock"):
        if not path.exists():
            _fetch(what, path)
    return path


def _fetch(what: Wheel, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parents[1]) as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "-d", folder, what.requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        found = Path(folder) / what.file
        if done.returncode or not found.exists():
            tail = ((done.stderr or done.stdout).strip().splitlines() or ["nothing"])[-1]
            raise NoWheel(f"pip could not fetch {what.requirement}; is a package index reachable? It said: {tail}")
        digest = hashlib.sha256(found.read_bytes()).hexdigest()
        if digest != what.sha256:
            raise ExecutionError(f"{what.file} has sha256 {digest}, {what.sha256} is required: it is another file")
        path.parent.mkdir(exist_ok=True)
        found.replace(path)


@lru_cache(maxsize=16)
def wheel_artefact(what: Wheel, name: str, cache: Path | None = None) -> Artefact:
    """Return interface and bytecode of the artefact at ``name`` inside the wheel; ExecutionError if it has none."""
    with zipfile.ZipFile(wheel(what, cache)) as archive:
        try:
            raw = json.loads(archive.read(name))
        except KeyError:
            raise ExecutionError(f"{what.file} has no {name!r}") from None
    code = raw["bytecode"]
    code = code if isinstance(code, str) else code["object"]
    return Artefact(Path(name).stem, raw["abi"], bytes.fromhex(code.removeprefix("0x")))

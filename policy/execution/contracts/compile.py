"""Contract artefacts: interface and bytecode of every ``contracts/*.vy``, compiled or as committed in ``abi/``.

An artefact is named by the digest of its source with all modules it imports, the compiler version and its
settings. The committed one is used when that digest fits, so running needs no compiler; a changed source is
compiled (about 4 s) and kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lake.errors import ExecutionError

CONTRACTS = Path(__file__).resolve().parent
LOCAL = CONTRACTS.parents[1] / "localnet" / "contracts"  # those that only a local chain has
COMMITTED = CONTRACTS / "abi"
COMPILER = "0.4.3"
SIZE_LIMIT = 24_576  # bytes of deployed code, EIP-170
DEPLOYABLE = (
    "foredrift_vault",
    "foredrift_investors",
    "foredrift_auctions",
    "foredrift_port",
    "foredrift_oracle",
    "delta_book",
    "hedge_account",
    "perp_market",
    "option_market",
    "rate_token",
    "mock_wad_math",
    "plan_register",
    "mock_feed",
    "mock_router",
    "mock_token",
    "mock_yield",
    "mock_attacker",
    "cctp_messenger",
    "cctp_transmitter",
    "lz_executor",
    "lz_worker",
    "oft_adapter",
)
_IMPORT = re.compile(r"^import (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Contract:
    """A compiled contract. ``size`` is that of the deployed code with its immutables, in bytes."""

    name: str
    abi: list[dict[str, object]]
    bytecode: bytes
    size: int
    digest: str


@lru_cache(maxsize=32)
def contract(name: str, cache: Path | None = None) -> Contract:
    """Return the artefact of ``contracts/<name>.vy``: committed, cached or freshly compiled, in this order.

    Raises ExecutionError when the source is unknown, or has changed and the compiler is not installed.
    """
    digest = source_digest(name)
    folder = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foredrift" / "vyper"
    for path in (COMMITTED / f"{name}.json", folder / f"{name}-{digest}.json"):
        if path.exists():
            raw = json.loads(path.read_text())
            if raw["digest"] == digest:
                return Contract(name, raw["abi"], bytes.fromhex(raw["bytecode"]), raw["size"], digest)
    fresh = compile_source(name)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{digest}.json"
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_text(to_json(fresh))
    part.replace(target)
    return fresh


def source_digest(name: str) -> str:
    """Return the sha256 over the compiler version and the source of ``name`` with its imports, in order."""
    seen = sources_of(name)
    parts = [COMPILER, *(f"{file}\n{text}" for file, text in sorted(seen.items()))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def sources_of(name: str) -> dict[str, str]:
    """Return the text of ``contracts/<name>.vy`` and of every module it imports, by file name."""
    seen: dict[str, str] = {}
    _collect(name, seen)
    return seen


def compile_source(name: str) -> Contract:
    """Compile ``contracts/<name>.vy`` now, whatever is cached; raises ExecutionError without Vyper 0.4.3."""
    with _compiler(name) as data:
        from vyper.compiler.output import build_abi_output

        immutables = data.compilation_target._metadata["type"].immutable_section_bytes  # noqa: SLF001 - no public name
        code, size = bytes(data.bytecode), len(data.bytecode_runtime) + immutables
        abi = build_abi_output(data)
    if size > SIZE_LIMIT:
        raise ExecutionError(f"{name} has {size} bytes of code, EIP-170 allows {SIZE_LIMIT}")
    return Contract(name, abi, code, size, source_digest(name))


def layout(name: str) -> dict[str, int]:
    """Return the storage slot of every variable of ``contracts/<name>.vy``, by its dotted name."""
    with _compiler(name) as data:
        return dict(_slots({k: v for k, v in data.storage_layout.items() if k != "code_layout"}, ""))


def _slots(found: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in found.items():
        if "slot" in value:
            yield prefix + key, int(value["slot"])
        else:
            yield from _slots(value, f"{prefix}{key}.")


@contextmanager
def _compiler(name: str) -> Iterator[Any]:
    try:
        import vyper  # 0.4 s, and an optional dependency: only who changes a contract needs it
        from vyper.compiler import CompilerData
        from vyper.compiler.input_bundle import FilesystemInputBundle
    except ImportError:
        raise ExecutionError(
            f"contracts/{name}.vy differs from its committed artefact and Vyper is not installed; "
            f"install the extra foredrift[chain] (vyper {COMPILER})"
        ) from None
    if vyper.__version__ != COMPILER:
        raise ExecutionError(f"Vyper {vyper.__version__} is installed, the contracts are pinned to {COMPILER}")
    bundle = FilesystemInputBundle([LOCAL, CONTRACTS])
    with bundle.search_path(CONTRACTS):
        yield CompilerData(bundle.load_file(f"{name}.vy"), bundle)


def to_json(compiled: Contract) -> str:
    """Return the artefact as committed: one JSON object, one line a member."""
    body = {"name": compiled.name, "compiler": COMPILER, "digest": compiled.digest, "size": compiled.size}
    lines = [f'"{k}": {json.dumps(v)}' for k, v in {**body, "abi": compiled.abi}.items()]
    lines.append(f'"bytecode": "{compiled.bytecode.hex()}"')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def commit_artefacts() -> list[Path]:
    """Compile every deployable contract into ``abi/`` and return the files; run after changing a contract."""
    COMMITTED.mkdir(exist_ok=True)
    written = []
    for name in DEPLOYABLE:
        path = COMMITTED / f"{name}.json"
        path.write_text(to_json(compile_source(name)))
        written.append(path)
    return written


def _collect(name: str, seen: dict[str, str]) -> None:
    found = [folder / f"{name}.vy" for folder in (CONTRACTS, LOCAL) if (folder / f"{name}.vy").exists()]
    if not found:
        raise ExecutionError(f"no contract {name!r} in {CONTRACTS} or {LOCAL}")
    path = found[0]
    seen[path.name] = path.read_text()
    for module in _IMPORT.findall(seen[path.name]):
        if f"{module}.vy" not in seen:
            _collect(module, seen)

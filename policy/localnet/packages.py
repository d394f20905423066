"""The local chain's packages: installed on demand from the committed lock file, read as artefacts.

The lock names every package with its version and hash and no host, so any npm registry or mirror serves it.
Install scripts are not run; the node binary comes out of its platform package.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lake.errors import ExecutionError
from lake.locks import exclusive

HERE = Path(__file__).resolve().parent
ARTEFACTS = {
    "UniswapV3Factory": "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
    "UniswapV3Pool": "@uniswap/v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json",
    "SwapRouter": "@uniswap/v3-periphery/artifacts/contracts/SwapRouter.sol/SwapRouter.json",
    "QuoterV2": "@uniswap/v3-periphery/artifacts/contracts/lens/QuoterV2.sol/QuoterV2.json",
    "TickLens": "@uniswap/v3-periphery/artifacts/contracts/lens/TickLens.sol/TickLens.json",
    "NonfungiblePositionManager": (
        "@uniswap/v3-periphery/artifacts/contracts/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"
    ),
    "UniswapV2Factory": "@uniswap/v2-core/build/UniswapV2Factory.json",
    "UniswapV2Pair": "@uniswap/v2-core/build/UniswapV2Pair.json",
    "UniswapV2Router02": "@uniswap/v2-periphery/build/UniswapV2Router02.json",
    "WETH9": "@uniswap/v2-periphery/build/WETH9.json",
    "Safe": "@safe-global/safe-smart-account/build/artifacts/contracts/Safe.sol/Safe.json",
    "SafeProxyFactory": (
        "@safe-global/safe-smart-account/build/artifacts/contracts/proxies/SafeProxyFactory.sol/SafeProxyFactory.json"
    ),
    **{
        f"{name} 1.3.0": f"@gnosis.pm/safe-contracts/build/artifacts/contracts/{path}"
        for name, path in {
            "Safe": "GnosisSafe.sol/GnosisSafe.json",
            "SafeProxyFactory": "proxies/GnosisSafeProxyFactory.sol/GnosisSafeProxyFactory.json",
            "MultiSendCallOnly": "libraries/MultiSendCallOnly.sol/MultiSendCallOnly.json",
        }.items()
    },
    **{
        f"{name} 1.4.1": f"@safe-global/safe-contracts/build/artifacts/contracts/{folder}{name}.sol/{name}.json"
        for name, folder in {
            "Safe": "",
            "SafeProxyFactory": "proxies/",
            "MultiSendCallOnly": "libraries/",
        }.items()
    },
    **{
        f"CompatibilityFallbackHandler {version}": (
            f"{package}/build/artifacts/contracts/handler/"
            "CompatibilityFallbackHandler.sol/CompatibilityFallbackHandler.json"
        )
        for version, package in (("1.3.0", "@gnosis.pm/safe-contracts"), ("1.4.1", "@safe-global/safe-contracts"))
    },
    "MultiSend": "@safe-global/safe-smart-account/build/artifacts/contracts/libraries/MultiSend.sol/MultiSend.json",
    "MultiSendCallOnly": (
        "@safe-global/safe-smart-account/build/artifacts/contracts/libraries/MultiSendCallOnly.sol/"
        "MultiSendCallOnly.json"
    ),
    "CompatibilityFallbackHandler": (
        "@safe-global/safe-smart-account/build/artifacts/contracts/handler/CompatibilityFallbackHandler.sol/"
        "CompatibilityFallbackHandler.json"
    ),
    **{
        name: f"@cowprotocol/contracts/lib/contracts/{name}.json"
        for name in ("GPv2Settlement", "GPv2AllowListAuthentication")
    },
    **{
        name: f"@uniswap/uniswapx-sdk/dist/cjs/src/contracts/factories/{name}__factory.js"
        for name in ("Permit2", "ExclusiveDutchOrderReactor", "PriorityOrderReactor")
    },
}
"""Contracts the local chain can deploy, with where their packages keep them."""


class NoNode(ExecutionError):
    """Node.js or npm is not installed here, so there is no local chain; the simulated vault works without it."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """Interface and creation bytecode of one published contract."""

    name: str
    abi: list[dict[str, object]]
    bytecode: bytes


def cache_dir() -> Path:
    """Return the folder for packages and saved worlds: ``foredrift`` in $XDG_CACHE_HOME or in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foredrift"


def lock_digest() -> str:
    """Return the first 16 hex digits of the lock file's sha256; it names the installed set."""
    return hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]


def modules(cache: Path | None = None) -> Path:
    """Return the ``node_modules`` folder, installing it first where needed (about 3 s, one process at a time).

    Raises NoNode without npm, ExecutionError with npm's last lines when it fails.
    """
    root = (cache or cache_dir()) / f"npm-{lock_digest()}"
    done = root / "complete"
    if done.exists():
        return root / "node_modules"
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NoNode(
            "the local chain needs Node.js 20 or newer with npm on the PATH; install it from nodejs.org or your "
            "package manager, or use the simulated vault"
        )
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / "lock"):
        if not done.exists():
            _install(npm, root)
            done.touch()
    return root / "node_modules"


def anvil_binary(cache: Path | None = None) -> Path:
    """Return the path of the node binary for this machine; ExecutionError if its package brings none."""
    found = sorted((modules(cache) / "@foundry-rs").glob("anvil-*/bin/anvil*"))
    if not found:
        raise ExecutionError("the anvil package has no binary for this platform (it serves Linux, macOS and Windows)")
    found[0].chmod(0o755)
    return found[0]


def artefact(name: str, cache: Path | None = None) -> Artefact:
    """Return interface and bytecode of contract ``name`` (a key of ARTEFACTS, or a path below node_modules)."""
    return _load(str(modules(cache) / ARTEFACTS.get(name, name)), name)


@lru_cache(maxsize=64)
def _load(path: str, name: str) -> Artefact:
    try:
        text = Path(path).read_text()
        raw = _from_factory(text) if path.endswith(".js") else json.loads(text)
    except FileNotFoundError:
        raise ExecutionError(f"no artefact {name!r}; known are {', '.join(ARTEFACTS)}") from None
    code = raw["bytecode"]
    code = code if isinstance(code, str) else code["object"]
    return Artefact(name, raw["abi"], bytes.fromhex(code.removeprefix("0x")) if "_" not in code else b"")


def _from_factory(text: str) -> dict[str, Any]:
    """Return interface and bytecode out of a generated ethers factory, a JavaScript file."""
    abi, code = text.split("const _abi = ", 1)[1].split(";\nconst _bytecode", 1)
    quoted = re.sub(r"(\w+):", r'"\1":', re.sub(r",(\s*[\]}])", r"\1", abi))
    return {"abi": json.loads(quoted), "bytecode": code.split('"', 2)[1]}


def _install(npm: str, root: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, root / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=peer"]  # only bytecode is wanted
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    if result.returncode:
        tail = "\n".join((result.stderr or result.stdout).strip().splitlines()[-6:])
        raise ExecutionError(f"npm ci failed with {result.returncode}; is a registry reachable? It said:\n{tail}")

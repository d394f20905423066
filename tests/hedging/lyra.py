"""Lyra's Black-Scholes library on the local chain against the kernel here and against ``wad_math.vy``: ``make lyra``.

The published package (ISC) is fetched once through npm into the cache, checked by its integrity, and only its bytecode
is used.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lake.evm import Call, read
from policy.execution.vaults.hedge.state import WAD
from policy.hedging import pricing
from policy.localnet.anvil import Anvil
from policy.localnet.deploy import Deployer
from policy.localnet.packages import Artefact, cache_dir

PACKAGE = "@lyrafinance/protocol@0.1.3-alpha"
FILE = "lyrafinance-protocol-0.1.3-alpha.tgz"
INTEGRITY = "oUO/m3kS6Bx0SmVID2PIjZ6RFVfixQV66I8hShuuMOIytehmxQtex5DgtMFDYumoO6MuyoZ18vKtDMHT0HLCXg=="
ARTEFACTS = "package/dist/artifacts/contracts"
POINTS = 300
CLOSE = 1e-12
FIXED_CLOSE = 1e-9
YEAR_S = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Differences:
    """Largest differences over all points: prices as fractions of spot, deltas, vega as a fraction of spot."""

    lyra: dict[str, float]
    fixed: dict[str, float]


def fetched(*, download: bool) -> Path | None:
    """Return the package's file in the cache; None where it is not there and may not be fetched."""
    path = cache_dir() / FILE
    if not path.exists():
        if not download:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "pack", PACKAGE, "--pack-destination", str(path.parent)], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"npm pack {PACKAGE} failed; is a registry reachable? {done.stderr[-300:]}")
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise SystemExit(f"{path} is not the published {PACKAGE}: remove it")
    return path


def _artefact(package: Path, where: str) -> dict[str, Any]:
    with tarfile.open(package) as tar:
        member = tar.extractfile(f"{ARTEFACTS}/{where}")
        assert member is not None
        return dict(json.loads(member.read()))


def _deployed(on: Deployer, package: Path) -> tuple[str, dict[str, Any]]:
    """Deploy the library and its test contract, linked; return the latter's address and artefact."""
    library = _artefact(package, "libraries/BlackScholes.sol/BlackScholes.json")
    where = on.deploy(Artefact("BlackScholes", [], bytes.fromhex(library["bytecode"][2:])))
    outer = _artefact(package, "test-helpers/TestBlackScholes.sol/TestBlackScholes.json")
    code = outer["bytecode"][2:]
    for file in outer["linkReferences"].values():
        for places in file.values():
            for place in places:
                start, end = 2 * place["start"], 2 * (place["start"] + place["length"])
                code = code[:start] + where[2:].lower() + code[end:]
    return on.deploy(Artefact("TestBlackScholes", [], bytes.fromhex(code))), outer


def differences(package: Path, seed: int = 1) -> Differences:
    """Return the largest differences over random options without interest."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(86_400, 180 * 86_400, POINTS)
    columns = [rng.uniform(0.3, 1.5, POINTS), rng.uniform(800, 4_000, POINTS)]
    columns.append(columns[1] * np.exp(rng.normal(0, 0.25, POINTS)))
    vol, spot, strike = ([round(float(x) * 1e9) * 10**9 for x in column] for column in columns)
    with Anvil() as node:
        on = Deployer(node.rpc)
        where, outer = _deployed(on, package)
        name = next(x["name"] for x in outer["abi"] if str(x.get("name", "")).startswith("pricesDeltaStdVega"))
        kinds = f"{name}((uint256,uint256,uint256,uint256,int256))"
        rows = zip(seconds.tolist(), vol, spot, strike, strict=True)
        told = read(node.rpc, [Call(where, kinds, "uint256,uint256,int256,int256,uint256", ((*r, 0),)) for r in rows])
        mine = on.vyper("mock_wad_math")
        taus = [int(s) * WAD // YEAR_S for s in seconds]
        asks = [Call(mine, "option(int256,int256,int256,int256,bool)", "int256,int256", (s, k, v, t, c))
                for c in (True, False) for s, k, v, t in zip(spot, strike, vol, taus, strict=True)]  # fmt: skip
        fixed = np.array(read(node.rpc, asks), dtype=np.float64).reshape(2, POINTS, 2) / WAD
    lyra = np.array(told, dtype=np.float64) / WAD
    S, K, v = (np.array(x, dtype=np.float64) / WAD for x in (spot, strike, vol))
    tau = seconds / YEAR_S
    call, put = (pricing.greeks(S, K, tau, v, np.full(POINTS, c)) for c in (True, False))
    pairs = {
        "call": (lyra[:, 0] / S, call[:, pricing.PRICE] / S), "put": (lyra[:, 1] / S, put[:, pricing.PRICE] / S),
        "call delta": (lyra[:, 2], call[:, pricing.DELTA]), "put delta": (lyra[:, 3], put[:, pricing.DELTA]),
        "vega": (lyra[:, 4] / S, call[:, pricing.VEGA] / S),
    }  # fmt: skip
    ours = {
        "call": (fixed[0, :, 0] / S, pairs["call"][1]), "put": (fixed[1, :, 0] / S, pairs["put"][1]),
        "call delta": (fixed[0, :, 1], pairs["call delta"][1]), "put delta": (fixed[1, :, 1], pairs["put delta"][1]),
    }  # fmt: skip
    return Differences(*({k: float(np.abs(a - b).max()) for k, (a, b) in p.items()} for p in (pairs, ours)))


def main() -> None:
    """Fetch, compare, print; exit 1 where a difference is too large."""
    package = fetched(download=True)
    assert package is not None
    found = differences(package)
    print(json.dumps({"points": POINTS, "lyra": found.lyra, "wad_math": found.fixed}, indent=1))
    sys.exit(int(max(found.lyra.values()) > CLOSE or max(found.fixed.values()) > FIXED_CLOSE))


if __name__ == "__main__":
    main()

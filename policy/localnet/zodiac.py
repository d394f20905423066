"""Zodiac Roles v2 on the local chain: bytecode from the published typings, libraries linked, its factory in place."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from lake.errors import ExecutionError
from policy.execution.vaults.safe.register import FACTORY
from policy.localnet.deploy import Deployer
from policy.localnet.packages import Artefact, modules

TYPINGS = "zodiac-roles-sdk/build/typechain-DJeCRYlC.js"
INTEGRITY, PACKER = "__$2cd9b773a3c3e0b461f7ad54b09f46e6ae$__", "__$1416e18a31f8412bde5440018f19e21267$__"
"""Placeholders of the two libraries in the bytecode of Roles."""
FACTORY_MAKER = "0xBb6e024b9cFFACB947A71991E386681B1Cd1477D"
FACTORY_TX = (
    "0xf9016c8085174876e8008303c4d88080b90154608060405234801561001057600080fd5b50610134806100206000396000f3fe60806040"
    "52348015600f57600080fd5b506004361060285760003560e01c80634af63f0214602d575b600080fd5b60cf600480360360408110156041"
    "57600080fd5b810190602081018135640100000000811115605b57600080fd5b820183602082011115606c57600080fd5b80359060200191"
    "846001830284011164010000000083111715608d57600080fd5b91908080601f016020809104026020016040519081016040528093929190"
    "818152602001838380828437600092019190915250929550509135925060eb915050565b604080516001600160a01b039092168252519081"
    "900360200190f35b6000818351602085016000f5939250505056fea26469706673582212206b44f8a82cb6b156bfcc3dc6aadd6df4eefd20"
    "4bc928a4397fd15dacf6d5320564736f6c634300060200331b83247000822470"
)
"""EIP-2470: the presigned transaction that makes the singleton factory, the same on every chain."""


def bytecode(name: str, cache: Path | None = None) -> str:
    """Return the creation bytecode of a contract in the typings, hex with placeholders; ExecutionError if unknown."""
    found = _bytecodes(modules(cache) / TYPINGS)
    if name not in found:
        raise ExecutionError(f"the typings of Zodiac Roles have no bytecode of {name!r}")
    return found[name]


def singleton_factory(on: Deployer) -> None:
    """Make EIP-2470's factory by its presigned transaction, where it is not there yet."""
    if len(str(on.rpc.call("eth_getCode", [FACTORY, "latest"]))) > len("0x"):
        return
    on.rpc.call("anvil_setBalance", [FACTORY_MAKER, hex(10**18)])
    on.rpc.call("anvil_setNextBlockBaseFeePerGas", [hex(10**9)])  # it was signed once for all, at 100 gwei
    on.rpc.call("eth_sendRawTransaction", [FACTORY_TX])
    on.rpc.call("evm_mine")


def unwrapper(on: Deployer) -> str:
    """Deploy the contract that takes a MultiSend batch apart for Roles; return its address."""
    return _deploy(on, "periphery/MultiSendUnwrapper", bytecode("periphery/MultiSendUnwrapper", on.cache))


def roles_modifier(on: Deployer, avatar: str) -> str:
    """Deploy Roles with its libraries, owned by ``avatar`` and acting on it; return its address."""
    integrity = _deploy(on, "Integrity", bytecode("Integrity", on.cache))
    packer = _deploy(on, "Packer", bytecode("packers/Packer", on.cache))
    code = bytecode("Roles", on.cache).replace(INTEGRITY, integrity[2:].lower()).replace(PACKER, packer[2:].lower())
    return _deploy(on, "Roles", code, ["address"] * 3, [avatar] * 3)


def _deploy(
    on: Deployer, name: str, code: str, types: tuple[str, ...] | list[str] = (), args: list[str] | None = None
) -> str:
    return on.deploy(Artefact(name, [], bytes.fromhex(code.removeprefix("0x"))), list(types), args or [])


@lru_cache(maxsize=2)
def _bytecodes(path: Path) -> dict[str, str]:
    found = {}
    for region in path.read_text().split("//#region ")[1:]:
        name = re.search(r"factories/contracts/([\w./]+)__factory\.ts", region.split("\n", 1)[0])
        code = re.search(r'_bytecode(?:\$\d+)? = "(0x[0-9a-fA-F_$]+)"', region)
        if name and code:
            found[name[1]] = code[1]
    return found

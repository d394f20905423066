"""Enzyme v4 on the local chain: its release from published bytecode, and a fund whose policies bound its manager."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.evm import calldata
from lake.rpc import Rpc
from policy.execution.base import Token
from policy.execution.checks.rules import Mandate
from policy.execution.vaults.enzyme.adapter import EnzymeFund, fund_of
from policy.localnet.accounts import dev_accounts
from policy.localnet.deploy import Deployer
from policy.localnet.packages import Artefact, lock_digest, modules
from policy.localnet.portfolio import TARGETS, safe_spec
from policy.localnet.world import NUMERAIRE, Extra, World

ARTEFACTS = "@enzymefinance/protocol/artifacts"
ZERO = "0x" + "0" * 40
WEEK_S = 7 * 86_400
STALE_S = 90_000
"""Age at which the release takes a price for stale; one for all of its feeds. Replayed history posts at least daily."""
FUND_CREATED = "0x" + keccak(text="NewFundCreated(address,address,address)").hex()


def enzyme_fund(
    targets_bps: Mapping[str, int] | None = None, *, deposit_usd: int = 1_000_000, tolerance: float = 0.03
) -> Extra:
    """Return the extra that deploys a release of Enzyme v4 and a fund of ``owner`` with the keeper as asset manager.

    ``tolerance``: slippage its managers may cause in a week, a fraction. Adds ``enzyme_comptroller``, ``enzyme_vault``
    and ``enzyme_swapper`` to the world's extras; see :func:`enzyme_vault`.
    """
    targets = dict(targets_bps or TARGETS)

    def build(on: Deployer, world: World) -> Mapping[str, str]:
        cash = world.token(NUMERAIRE)
        found = new_fund(on, world, targets, cash, tolerance)
        amount = deposit_usd * 10**cash.decimals
        on.call("investor", cash.address, "approve(address,uint256)", found["enzyme_comptroller"], amount)
        on.call("investor", found["enzyme_comptroller"], "buyShares(uint256,uint256)", amount, 1)
        return found

    shape = (lock_digest(), Path(__file__).read_bytes(), targets, deposit_usd, tolerance)
    return Extra("enzyme_fund", hashlib.sha256(repr(shape).encode()).hexdigest(), build)


def new_fund(
    on: Deployer, world: World, assets: Mapping[str, int], cash: Token, tolerance: float
) -> dict[str, str]:  # fmt: skip
    """Deploy a release and a fund of ``owner`` counted in ``cash`` that may hold ``assets``, the keeper its manager.

    Return its ``enzyme_comptroller``, ``enzyme_vault``, ``enzyme_swapper`` and ``enzyme_integrations``.
    """
    release = _release(on, world)
    policies = _policies(on, world, release, assets, tolerance)
    create = "createNewFund(address,string,string,address,uint256,bytes,bytes)"
    made = (dev_accounts()["owner"].address, "Local fund", "LOCAL", cash.address, 0, b"", policies)
    receipt = on.call("owner", release["FundDeployer"], create, *made)
    logs = [log for log in receipt["logs"] if log["topics"][0] == FUND_CREATED]  # type: ignore[attr-defined]
    vault, comptroller = (str(to_checksum_address("0x" + logs[0]["data"][26 + 64 * i : 66 + 64 * i])) for i in (0, 1))
    on.call("owner", vault, "addAssetManagers(address[])", [dev_accounts()["keeper"].address])
    return {
        "enzyme_comptroller": comptroller, "enzyme_vault": vault, "enzyme_swapper": release["UniswapV3Adapter"],
        "enzyme_integrations": release["IntegrationManager"],
    }  # fmt: skip


def enzyme_vault(
    rpc: Rpc, world: World, targets_bps: Mapping[str, int] | None = None, *, mandate: Mandate | None = None
) -> EnzymeFund:
    """Return the adapter of the world's fund."""
    extras = {"safe": world.extras["enzyme_vault"], "multisend": ZERO}
    limits = replace(mandate or Mandate(), max_legs=1)
    spec = safe_spec(replace(world, extras=extras), targets_bps, mandate=limits, signed=False)
    return EnzymeFund(rpc, spec, fund_of(rpc, world.extras["enzyme_comptroller"], world.extras["enzyme_swapper"]))


def _release(on: Deployer, world: World) -> dict[str, str]:
    """Deploy a release: its contracts by name, feeds registered, live."""
    made: dict[str, str] = {}
    cash, weth = world.token(NUMERAIRE).address, world.contracts["weth"]

    def put(name: str, types: Sequence[str] = (), *args: object) -> str:
        made[name] = on.deploy(_artefact(name, str(modules(on.cache))), types, args)
        return made[name]

    def addresses(name: str, *args: str) -> str:
        return put(name, ["address"] * len(args), *args)

    dispatcher = put("Dispatcher")
    positions = addresses("ExternalPositionFactory", dispatcher)
    reserve_lib = addresses("ProtocolFeeReserveLib", dispatcher, cash)
    init = calldata("init(address)", dispatcher)
    reserve = put("ProtocolFeeReserveProxy", ["bytes", "address"], init, reserve_lib)
    addresses("AddressListRegistry", dispatcher)
    relay = addresses("GasRelayPaymasterFactory", dispatcher, addresses("GasRelayPaymasterLib", weth, ZERO, ZERO))
    deployer = addresses("FundDeployer", dispatcher, relay)
    values = put("ValueInterpreter", ["address", "address", "uint256"], deployer, weth, STALE_S)
    rules = addresses("PolicyManager", deployer, relay)
    external = addresses("ExternalPositionManager", deployer, positions, rules)
    charges = addresses("FeeManager", deployer)
    integrations = addresses("IntegrationManager", deployer, rules, values)
    parts = (reserve, deployer, values, external, charges, integrations, rules, relay, cash, weth)
    library = addresses("ComptrollerLib", dispatcher, *parts)
    tracker = addresses("ProtocolFeeTracker", deployer)
    shape = ["address"] * 7 + ["uint256"]
    vaults = put("VaultLib", shape, external, relay, reserve, tracker, cash, ZERO, weth, 20)
    for call, address in (("Comptroller", library), ("Vault", vaults)):
        on.call("deployer", deployer, f"set{call}Lib(address)", address)
    on.call("deployer", deployer, "setProtocolFeeTracker(address)", tracker)
    on.call("deployer", positions, "addPositionDeployers(address[])", [external])
    on.call("deployer", deployer, "setReleaseLive()")
    on.call("deployer", dispatcher, "setCurrentFundDeployer(address)", deployer)
    addresses("UniswapV3Adapter", integrations, world.contracts["v3_router"])
    on.call("deployer", values, "setEthUsdAggregator(address)", str(world.token("ETH").feed))
    priced = [t for a, t in world.tokens.items() if a != "ETH"]  # WETH is the rate itself
    lists = ([t.address for t in priced], [str(t.feed) for t in priced], [1] * len(priced))
    on.call("deployer", values, "addPrimitives(address[],address[],uint8[])", *lists)
    return made


def _policies(on: Deployer, world: World, made: dict[str, str], targets: Mapping[str, int], tolerance: float) -> bytes:
    """Deploy the policies that bound a manager's key; return a new fund's settings of them."""
    rules, lists, values = made["PolicyManager"], made["AddressListRegistry"], made["ValueInterpreter"]
    weth = world.contracts["weth"]

    def put(name: str, types: Sequence[str], *args: object) -> str:
        return on.deploy(_artefact(name, str(modules(on.cache))), types, args)

    slippage = put(
        "CumulativeSlippageTolerancePolicy", ["address"] * 4 + ["uint256"] * 4,
        rules, lists, values, weth, 0, WEEK_S, WEEK_S, 2 * 86_400,
    )  # fmt: skip
    adapters = put("AllowedAdaptersPolicy", ["address"] * 2, rules, lists)
    incoming = put("AllowedAdapterIncomingAssetsPolicy", ["address"] * 2, rules, lists)
    dust = put(
        "OnlyUntrackDustOrPricelessAssetsPolicy", ["address"] * 4 + ["uint256"] * 2,
        rules, made["FundDeployer"], values, weth, WEEK_S, 2 * 86_400,
    )  # fmt: skip
    settings = [
        encode(["uint64"], [int(tolerance * 10**18)]),
        _list([made["UniswapV3Adapter"]]),
        _list([world.token(a).address for a in targets]),
        b"",
    ]
    return encode(["address[]", "bytes[]"], [[slippage, adapters, incoming, dust], settings])


def _list(items: Sequence[str]) -> bytes:
    """Return a policy's settings of one new list that nobody changes (UpdateType None)."""
    return encode(["uint256[]", "bytes[]"], [[], [encode(["uint8", "address[]"], [0, list(items)])]])


@lru_cache(maxsize=64)
def _artefact(name: str, root: str) -> Artefact:
    code = json.loads((Path(root) / ARTEFACTS / f"{name}.bin.json").read_text())["bytecode"]
    code = code if isinstance(code, str) else code["object"]
    return Artefact(name, [], bytes.fromhex(code.removeprefix("0x")))

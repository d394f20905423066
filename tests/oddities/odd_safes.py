"""Safes by version, and what their owners may have set up in a keeper's way."""

from __future__ import annotations

from dataclasses import replace

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from lake.evm import calldata
from lake.rpc import Rpc
from policy.execution.context import EngineContext
from policy.execution.vaults.safe.adapter import VERSIONS, SafeAccount
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet
from policy.localnet.portfolio import safe_account, safe_spec
from tests.oddities import kit
from tests.oddities.odd import REFUSED, TRADED, Odd, Set


def of_version(version: str) -> Set:
    """A Safe of this version in place of the market's own."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        made = safe_account(deposit_usd=100_000, version=version).deploy(net.deployer, net.world)
        world = replace(net.world, extras={**net.world.extras, **made})
        safe = SafeAccount(Rpc(net.url, timeout=10, tries=1), safe_spec(world, kit.TARGETS, mandate=kit.MANDATE))
        return replace(ctx, vault=safe, vault_address=safe.spec.address)

    return act


def says(version: str) -> Set:
    """The Safe tells another version."""
    asked = "0x" + calldata("VERSION()").hex()
    told = "0x" + encode(["string"], [version]).hex()

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        lie = Fault(
            FaultKind.LYING, ("eth_call",), times=None, change=lambda m, p, r: told if p[0]["data"] == asked else r
        )
        net.faults.add(lie)
        return ctx

    return act


def by_itself(signature: str, *args: object) -> Set:
    """The Safe's owners have made it call itself."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        admin, safe = net.node.admin, ctx.vault_address
        admin.call("anvil_impersonateAccount", [safe])
        admin.call("anvil_setBalance", [safe, hex(10**18)])
        filled = [net.accounts[a].address if a in net.accounts else a for a in args]
        tx = {"from": safe, "to": safe, "data": "0x" + calldata(signature, *filled).hex(), "gas": hex(500_000)}
        sent = admin.call("eth_sendTransaction", [tx])
        net.mine()
        assert admin.call("eth_getTransactionReceipt", [sent])["status"] == "0x1"  # type: ignore[index]
        admin.call("anvil_stopImpersonatingAccount", [safe])
        return ctx

    return act


def in_slot(name: str, asset: str) -> Set:
    """A contract that takes no such call (the asset's token) stands where the Safe keeps a guard."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        word = "0x" + net.world.token(asset).address[2:].lower().rjust(64, "0")
        net.node.admin.call("anvil_setStorageAt", [ctx.vault_address, "0x" + keccak(text=name).hex(), word])
        net.mine()
        return ctx

    return act


ONE = "0x" + "0" * 39 + "1"
SAFES: tuple[Odd, ...] = tuple(
    Odd("safe", name, expected, act, word, only=("safe",))
    for name, expected, act, word in (
        *((f"version {v}", TRADED, of_version(v), "") for v in VERSIONS),
        ("an unknown version", REFUSED, says("1.6.0"), "version '1.6.0'"),
        ("no version", REFUSED, says(""), "version ''"),
        (
            "the keeper is no owner",
            REFUSED,
            by_itself("swapOwner(address,address,address)", ONE, "keeper", "trader"),
            "owner",
        ),
        ("threshold of 2", REFUSED, by_itself("addOwnerWithThreshold(address,uint256)", "trader", 2), "threshold"),
        ("another module is enabled", TRADED, by_itself("enableModule(address)", "trader"), ""),
        ("a guard that refuses", REFUSED, in_slot("guard_manager.guard.address", "LINK"), "guard"),
        ("a guard of modules", TRADED, in_slot("module_manager.module_guard.address", "LINK"), ""),
    )
)

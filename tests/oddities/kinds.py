"""Tokens, price feeds and keepers that are odd; pools, Safes and nodes have files of their own."""

from __future__ import annotations

from dataclasses import replace

from eth_utils.address import to_checksum_address

from lake.evm import calldata
from policy.execution.checks.guards import OracleEvidence
from policy.execution.context import EngineContext
from policy.execution.submission.signer import KeystoreSigner, create_keystore
from policy.execution.vaults.reference.deployment import TokenSource, VaultSetup, deploy
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet
from tests.oddities import kit
from tests.oddities.odd import APART, LATER, REFUSED, TRADED, Odd, Set, market


def token(kind: int, argument: int = 0, subject: str = "") -> Set:
    """Let the sick token misbehave; ``subject``: "vault" or "pool" (its deepest one)."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        pool = net.world.pools["v3:LINK/ETH:3000"].address
        kit.afflict(net, kit.SICK, kind, argument, {"vault": ctx.vault_address, "pool": pool}.get(subject, kit.ZERO))
        return ctx

    return act


def uptime(started: int, answer: int) -> Set:
    """Configure an L2's uptime feed that says this."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        view = ctx.view
        return replace(ctx, view=lambda s: replace(view(s), evidence=OracleEvidence(sequencer=(answer == 0, started))))

    return act


def feed(act: str, *args: object, ahead_s: int | None = None, second: bool = False) -> Set:
    """Do something to the sick token's feed (or its second one); ``ahead_s`` adds that time as the last argument."""

    def done(net: Localnet, ctx: EngineContext) -> EngineContext:
        at = net.world.extras[f"second_feed:{kit.SICK}"] if second else str(net.world.token(kit.SICK).feed)
        when = () if ahead_s is None else (net.node.head().time + ahead_s,)
        net.send("deployer", at, calldata(act, *args, *when))
        net.mine()
        return ctx

    return done


def created(description: str, digits: int = 8) -> Set:
    """Create a vault whose second token is priced by such a feed; it must not come into being."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        on, link, cash = net.deployer, net.world.token(kit.SICK), net.world.token("USDC")
        made = on.vyper("mock_feed", ["uint8", "string", "int256"], [digits, description, 7 * 10**8])
        feeds = [(cash, str(cash.feed)), (link, made)]
        sources = [TokenSource(to_checksum_address(t.address), t.decimals, 5_000, f) for t, f in feeds]
        who = {role: a.address for role, a in net.accounts.items()}
        deploy(net.node.admin, VaultSetup(sources, who["owner"], who["keeper"], who["guardian"], []), who["deployer"])
        return ctx

    return act


def delegated(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Let the keeper's account delegate to a contract."""
    net.node.admin.call("anvil_setCode", [ctx.sender, "0xef0100" + net.world.contracts["weth"][2:].lower()])
    net.mine()
    return ctx


def contract(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Let the keeper's account be a contract: nodes take no transaction from it (EIP-3607; Anvil would)."""
    net.node.admin.call("anvil_setCode", [ctx.sender, "0x6001600101"])
    words = f"sender not an eoa: address {ctx.sender}, codehash: 0x12"
    net.faults.add(Fault(FaultKind.ERROR, ("eth_sendRawTransaction",), times=None, code=-32_000, message=words))
    return ctx


def busy(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Another program with the same key has a transaction waiting, at the nonce the plan would take."""
    net.send("keeper", ctx.sender, b"", gas=21_000, tip_wei=40 * 10**9)
    return ctx


def keystore(mode: int = 0o600, content: str = "", passphrase: str = "local") -> Set:
    """Open the keeper's key from a file of this mode and content, with this passphrase."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        path = ctx.journal.path.parent / "keeper.json"
        path.chmod(mode)
        if content:
            path.write_text(content)
        return replace(ctx, signer=KeystoreSigner(path, lambda: passphrase))

    return act


def another(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Send from an account that is not the vault's keeper."""
    path = ctx.journal.path.parent / "other.json"
    create_keystore(path, "local", net.accounts["trader"].key, iterations=2)
    return replace(ctx, signer=KeystoreSigner(path, lambda: "local"), sender=net.accounts["trader"].address)


def poor(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Take the keeper's gas money."""
    net.node.admin.call("anvil_setBalance", [ctx.sender, hex(10**12)])
    return ctx


def short_symbol(net: Localnet) -> None:
    """Let symbol() answer 32 bytes."""
    net.send("deployer", net.world.token(kit.SICK).address, calldata("set_short_symbol(bool)", True))
    net.mine()


VAULTS = ("reference",)
"""Adapters whose contract has an oracle of its own and a role for the keeper."""
TOKENS: tuple[Odd, ...] = (
    Odd("token", "plain ERC-20, 6, 8 or 18 decimals", TRADED, market(lambda net: None)),
    Odd("token", "transfers return nothing", TRADED, token(3)),
    Odd("token", "symbol of 32 bytes", TRADED, market(short_symbol)),
    Odd("token", "paused", APART, token(kit.PAUSED), "paused"),
    Odd("token", "the vault is blacklisted", APART, token(kit.BLACKLIST, subject="vault"), "blacklisted"),
    Odd("token", "the pool is blacklisted", APART, token(kit.BLACKLIST, subject="pool"), "blacklisted"),
    Odd("token", "fee on every transfer", APART, token(kit.FEE, 100), "fee"),
    Odd("token", "fee of 0.01 %", APART, token(kit.FEE, 1), "fee"),
    Odd("token", "transfers answer false", APART, token(kit.RETURNS_FALSE), "false"),
    Odd("token", "rebasing: transfers round down (stETH)", APART, token(kit.SHARES), "round down"),
    Odd("token", "rebasing: balances grow", APART, token(kit.GROWS, 10), "changes by itself"),
    Odd("token", "can be bought and not sold", APART, token(kit.NO_SALE, subject="pool"), "not sold"),
    Odd("token", "fee on sales", APART, token(kit.SALE_FEE, 200, "pool"), "LINK"),
)
FEEDS: tuple[Odd, ...] = (
    Odd("feed", "not positive", APART, market(lambda net: kit.post(net, kit.SICK, -1)), "LINK"),
    Odd("feed", "far above the market", APART, market(lambda net: kit.post(net, kit.SICK, 14)), "market trades at"),
    Odd("feed", "far below the market", APART, market(lambda net: kit.post(net, kit.SICK, 3)), "against the oracle"),
    Odd("feed", "the accounting asset's, not positive", REFUSED, market(lambda net: kit.post(net, "USDC", -1)), "USDC"),
    Odd("feed", "reverts", APART, feed("set_broken(bool)", True), "LINK"),
    Odd("feed", "one stale", APART, feed("post_at(int256,uint256)", 7 * 10**8, ahead_s=-100_000), "LINK"),
    Odd("feed", "from the future", APART, feed("post_at(int256,uint256)", 7 * 10**8, ahead_s=86_400), "LINK"),
    Odd("feed", "round without a time", APART, feed("post_at(int256,uint256)", 7 * 10**8, 0), "LINK"),
    Odd("feed", "two sources apart", APART, feed("post(int256)", 8 * 10**8, second=True), "LINK", only=VAULTS),
    Odd("feed", "in another quote (BTC / ETH)", REFUSED, created("LINK / ETH"), "LINK / ETH", only=VAULTS),
    Odd("feed", "with other decimals than configured", REFUSED, created("LINK / USD", 18), "decimals", only=VAULTS),
    Odd("feed", "all stale", REFUSED, market(lambda net: net.mine(seconds=100_000)), "old"),
    Odd("feed", "L2 sequencer down", REFUSED, uptime(1, 1), "down"),
    Odd("feed", "L2 sequencer feed never started", REFUSED, uptime(0, 0), "startedAt is 0"),
)
KEEPERS: tuple[Odd, ...] = (
    Odd("keeper", "without gas money", REFUSED, poor, "native coins"),
    Odd("keeper", "delegates to a contract (EIP-7702)", TRADED, delegated),
    Odd("keeper", "is a contract", LATER, contract, "sender not an eoa"),
    Odd("keeper", "its nonce is used elsewhere", LATER, busy, "nonce"),
    Odd("keeper", "is not the vault's keeper", REFUSED, another, "keeper", only=VAULTS),
    Odd("keeper", "keystore that others may read", REFUSED, keystore(mode=0o644), "chmod"),
    Odd("keeper", "keystore that is no keystore", REFUSED, keystore(content="{"), "cannot be read"),
    Odd("keeper", "another passphrase", REFUSED, keystore(passphrase="foreign"), "passphrase"),
)

"""The vault as an attacker finds it: at its targets, with flows of several accounts in one block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lake.errors import RpcError
from lake.evm import calldata
from lake.rpc import quantity
from tests.execution.vault_kit import Bench

USD = 10**6
GAS = 3_000_000
DEPOSIT, MINT = "deposit(uint256,address)", "mint(uint256,address)"
WITHDRAW, REDEEM = "withdraw(uint256,address,address)", "redeem(uint256,address,address)"
IN_KIND = "redeemInKind(uint256,address,address)"
SKIPPING = "redeemInKind(uint256,address,address,uint256)"
Call = tuple[str, str, str, tuple[Any, ...]]
"""Role, contract, signature, arguments."""


def has(b: Bench, signature: str, *args: Any) -> bool:
    """Return whether the vault answers the view at all."""
    try:
        data = "0x" + calldata(signature, *args).hex()
        answer = b.rpc.call("eth_call", [{"to": b.vault, "data": data}, "latest"])
    except RpcError:
        return False
    return answer != "0x"


def terms(b: Bench) -> tuple[int, ...]:
    """Return hold (seconds) and the fees (bp) of entry, exit, management and performance; 0 where there are none."""
    return tuple(b.get(b.vault, "terms()", ",".join(["uint256"] * 5))) if has(b, "terms()") else (0,) * 5


def hold_s(b: Bench) -> int:
    """Return how long bought shares are held, seconds."""
    return int(terms(b)[0])


def entry_bps(b: Bench) -> int:
    """Return what entering costs."""
    return int(terms(b)[1])


def to_target(b: Bench) -> None:
    """Trade the funded vault to 40/30/30 without loss."""
    nav = b.view("totalAssets()")
    for i in (1, 2):
        b.rebalance(b.plan(b.fair(0, i, nav * 3 // 10)))
        b.wait(61)


def prices(b: Bench, above_bps: int = 0) -> list[float]:
    """Return USD a raw unit of every token, ETH and BTC ``above_bps`` above their feeds."""
    e8 = [b.answer(0), *(b.answer(i) * (1 + above_bps / 10_000) for i in (1, 2))]
    return [p / 1e8 / 10**d for p, d in zip(e8, b.decimals, strict=True)]


def balances(b: Bench) -> list[int]:
    """Return what belongs to the holders, raw units."""
    if has(b, "balances()"):
        return list(b.get(b.vault, "balances()", "uint256[]"))
    return [b.held(i) for i in range(3)]


def nav_usd(b: Bench, market: Sequence[float]) -> float:
    """Return the vault's value at the market's prices, USD."""
    return sum(h * p for h, p in zip(balances(b), market, strict=True))


def a_share(b: Bench, market: Sequence[float]) -> float:
    """Return the value of one raw share at the market's prices, USD."""
    supply = b.view("totalSupply()")
    return nav_usd(b, market) / supply if supply else 0.0


def weights(b: Bench) -> list[float]:
    """Return the shares of the tokens at the feeds' prices."""
    values = [h * p for h, p in zip(balances(b), prices(b), strict=True)]
    return [v / sum(values) for v in values]


def wealth(b: Bench, roles: Sequence[str], market: Sequence[float]) -> float:
    """Return what ``roles`` own at the market's prices, their shares and claims included, USD."""
    own = sum(b.held(i, role) * market[i] for role in roles for i in range(3))
    return own + sum(b.view("balanceOf(address)", b.who[r]) for r in roles) * a_share(b, market)


def one_block(b: Bench, *calls: Call) -> list[bool]:
    """Mine all calls in one block in this order; return which succeeded."""
    b.rpc.call("evm_setAutomine", [False])
    sent = []
    for role, to, signature, args in calls:
        data = "0x" + calldata(signature, *args).hex()
        tx = {"from": b.who[role], "to": to, "data": data, "gas": hex(GAS)}
        sent.append(b.rpc.call("eth_sendTransaction", [tx]))
    b.rpc.call("evm_mine")
    b.rpc.call("evm_setAutomine", [True])
    return [quantity(b.receipt(s)["status"]) == 1 for s in sent]


def raised(b: Bench, bps: int, second: bool = True) -> list[Call]:
    """Return the posts that move ETH and BTC by ``bps``; without ``second`` the first feeds alone."""
    feeds = [(i, f) for i in (1, 2) for f in ((b.feeds[i], b.seconds[i]) if second else (b.feeds[i],))]
    return [("deployer", f, "post(int256)", (b.answer(i) * (10_000 + bps) // 10_000,)) for i, f in feeds]

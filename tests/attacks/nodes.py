"""A node that lies, or a stolen key of a Safe: what a second operator, and the chain, have to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from lake.rpc import Rpc
from pipelines.sections import ChainSection, PoolRow, Sources, VaultSection
from pipelines.settings import Settings
from pipelines.vault_setup import onchain
from policy.execution.engine import step
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.front import Front
from policy.localnet.market import Localnet
from tests.attacks.outcome import Attack, Outcome, joined
from tests.chain_fixtures import into_the_hour
from tests.execution.chainlab import TARGETS, chain_context

LATEST_ROUND, LIQUIDITY = "0xfeaf968c", "0x1a686502"
Change = Callable[[str, Any, Any], Any]


def price(method: str, params: Any, result: Any) -> Any:
    """Every feed is 3 % higher."""
    if method == "eth_call" and params[0]["data"].startswith(LATEST_ROUND):
        return result[:66] + f"{int(result[66:130], 16) * 103 // 100:064x}" + result[130:]
    return result


def pool(method: str, params: Any, result: Any) -> Any:
    """Every pool is twice as deep."""
    is_pool = method == "eth_call" and params[0]["data"].startswith(LIQUIDITY)
    return f"0x{int(result, 16) * 2:064x}" if is_pool else result


def nonce(method: str, params: Any, result: Any) -> Any:
    """The account has sent one more."""
    return hex(int(result, 16) + 1) if method == "eth_getTransactionCount" else result


def block(method: str, params: Any, result: Any) -> Any:
    """Blocks have another hash."""
    if method.startswith("eth_getBlockBy") and isinstance(result, dict):
        return {**result, "hash": "0x" + "ab" * 32}
    return result


LIES: dict[str, Change] = {"price": price, "pool": pool, "nonce": nonce, "block": block}


@contextmanager
def second_operator(net: Localnet) -> Iterator[Front]:
    """Another operator's node of the same chain."""
    front = Front(net.node)
    try:
        yield front
    finally:
        front.close()


def live(net: Localnet, folder: Path, urls: tuple[str, ...]) -> Any:
    """Return the context of a live vault whose settings name ``urls``; the first is the one it works with."""
    ctx = chain_context(folder, net, Rpc(urls[0], timeout=60, tries=1))
    if not hasattr(onchain, "witnesses_of"):
        return ctx
    pools = [p for p in net.world.pools.values() if {p.asset, p.quote} <= set(TARGETS)]
    settings = Settings(
        chain=ChainSection(id=net.chain_id, rpc_urls=tuple(SecretStr(u) for u in urls)),
        vault=VaultSection(kind="reference", address=net.world.extras["vault"], keeper=net.accounts["keeper"].address),
        sources=Sources(
            pools=tuple(PoolRow(address=p.address, venue=p.venue, router=p.router, asset="ETH") for p in pools)
        ),
    )
    return replace(ctx, witnesses=onchain.witnesses_of(settings, ctx.sender))


def lying(on: tuple[Localnet, Path]) -> Outcome:
    """One of two nodes lies, consistently, about one thing: nothing may be signed."""
    net, folder = on
    into_the_hour(net, 60)
    found = []
    with second_operator(net) as second:
        for what, change in LIES.items():
            for liar in ("first", "second"):
                saved = net.snapshot()
                front = net.front if liar == "first" else second
                front.faults.add(Fault(FaultKind.LYING, times=None, change=change))
                ctx = live(net, folder / f"{what}-{liar}", (net.url, second.url))
                report = step(ctx)
                signed = any(f.attempts for f in ctx.journal.flights())
                front.faults.clear()
                net.revert(saved)
                text = f"the {liar} lies about {what}: {report.outcome}"
                found.append(Outcome(not signed, f"{text}, {'signed' if signed else 'nothing signed'}"))
    traded = sum(not f.held for f in found)
    return Outcome(not traded, f"{traded} of {len(found)} lies were signed on; {joined(found, 1).figure}")


def alone(on: tuple[Localnet, Path]) -> Outcome:
    """A second node is down, or the same operator's: it confirms nothing, and that is said."""
    net, folder = on
    into_the_hour(net, 60)
    down = step(live(net, folder / "down", (net.url, "http://127.0.0.1:9/")))
    saved = net.snapshot()
    one = step(live(net, folder / "one", (f"{net.url}/a", f"{net.url}/b")))
    net.revert(saved)
    said = any(v.check == "one_node" for v in one.verdicts)
    text = f"second node down: {down.outcome}; one operator twice: {'said' if said else 'not said'}"
    return Outcome(down.outcome == "refused" and said, text)


ATTACKS = [
    Attack("H5 lying node", "one of two nodes lies about one thing", "market", lying, short=False),
    Attack("H5 one operator", "no second operator answers", "market", alone, short=False),
]

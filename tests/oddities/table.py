"""The conformance table: every odd kind with every adapter on the local chain, and the page made from it.

``python -m tests.oddities.table`` runs all of it, prints the table and fails on a wrong row; with ``--write`` it writes
docs/supported.md anew. A later adapter joins by a row of ``kit.ADAPTERS``, a later kind by a row of ``KINDS``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lake.evm import calldata
from policy.execution.checks.guards import OracleEvidence
from policy.execution.context import EngineContext, StepReport
from policy.execution.engine import step
from policy.execution.probes.sick import UNTRADABLE
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet
from tests.chain_fixtures import fresh, into_the_hour
from tests.oddities import kit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "supported.md"
TRADED, APART, REFUSED, EITHER = "traded", "rest traded", "refused", "refused or rest traded"
BY_VAULT = "traded by a vault that tells its balances, refused for a Safe"
HEAD = """# What is supported, left alone and refused

Made from the conformance table (`make oddities`), which runs every row with every adapter on the local chain;
`python -m tests.oddities.table --write` writes this page anew, and a test holds it to the table.

A token that is *left alone* is named in the decision, in `foredrift status` and in a notification; the others trade
without it, and it is tried again at every step, so it rejoins by itself. `foredrift doctor` runs the same proof
(receive, send, buy, sell back, keep for a day; all simulated) before the first plan, and checks decimals, descriptions
and heartbeats of feeds, pools against the factory of their router, and the methods and the state of the node.

- Pools: Uniswap v2 pairs and v3 pools, traded by Router02 and SwapRouter of their own factory; empty and gapped pools
  are left out.
- Feeds: Chainlink's reading interface, in USD. Safes: 1.3.0, 1.4.1 and 1.5.0, signed by one owner, the keeper.
- Nodes: what answers `eth_call`, `eth_getLogs`, `eth_feeHistory` and `eth_getTransactionReceipt`; `eth_simulateV1` for
  proofs.
- Tokens without decimals trade in whole units."""
Set = Callable[[Localnet, EngineContext], EngineContext]


@dataclass(frozen=True)
class Odd:
    """One kind: what is set up, what must come of it, and a word that must be said where something is refused."""

    of: str  # token | pool | feed | keeper | node
    name: str
    expected: str
    set_up: Set
    word: str = ""
    leave: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """What came of a kind with an adapter; ``wrong`` says what should not have been."""

    odd: Odd
    adapter: str
    outcome: str
    words: str
    wrong: str


def token(kind: int, argument: int = 0, subject: str = "") -> Set:
    """Let the sick token misbehave; ``subject``: "vault" or "pool" (its deepest one)."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        pool = net.world.pools["v3:LINK/ETH:3000"].address
        kit.afflict(net, kit.SICK, kind, argument, {"vault": ctx.vault_address, "pool": pool}.get(subject, kit.ZERO))
        return ctx

    return act


def market(act: Callable[[Localnet], object]) -> Set:
    """Do something to the market."""

    def acted(net: Localnet, ctx: EngineContext) -> EngineContext:
        act(net)
        return ctx

    return acted


def uptime(started: int, answer: int) -> Set:
    """Configure an L2's uptime feed that says this."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        view = ctx.view
        return replace(ctx, view=lambda s: replace(view(s), evidence=OracleEvidence(sequencer=(answer == 0, started))))

    return act


def node(kind: FaultKind, method: str = "") -> Set:
    """Let the node fail a method, or all of them, until the fault is taken away."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        net.faults.add(Fault(kind, (method,) if method else (), times=None))
        return ctx

    return act


def without_simulation(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Take eth_simulateV1 from the node: plans are simulated by eth_call, and tokens stay unproven."""
    net.faults.add(Fault(FaultKind.ERROR, ("eth_simulateV1",), times=None, code=-32_601, message="method not found"))
    return ctx


def poor(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Take the keeper's gas money."""
    net.node.admin.call("anvil_setBalance", [ctx.sender, hex(10**12)])
    return ctx


def short_symbol(net: Localnet) -> None:
    """Let symbol() answer 32 bytes."""
    net.send("deployer", net.world.token(kit.SICK).address, calldata("set_short_symbol(bool)", True))
    net.mine()


LINK_POOLS = (kit.SICK,)
KINDS: tuple[Odd, ...] = (
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
    Odd("pool", "none configured for a token", APART, market(lambda net: None), "no configured pool", LINK_POOLS),
    Odd("feed", "not positive", EITHER, market(lambda net: kit.post(net, kit.SICK, -1)), "LINK"),
    Odd("feed", "far above the market", APART, market(lambda net: kit.post(net, kit.SICK, 14)), "market trades at"),
    Odd("feed", "far below the market", APART, market(lambda net: kit.post(net, kit.SICK, 3)), "against the oracle"),
    Odd("feed", "the accounting asset's, not positive", REFUSED, market(lambda net: kit.post(net, "USDC", -1)), "USDC"),
    Odd("feed", "all stale", REFUSED, market(lambda net: net.mine(seconds=100_000)), "old"),
    Odd("feed", "L2 sequencer down", REFUSED, uptime(1, 1), "down"),
    Odd("feed", "L2 sequencer feed never started", REFUSED, uptime(0, 0), "startedAt is 0"),
    Odd("keeper", "without gas money", REFUSED, poor, "native coins"),
    Odd("node", "fails every request", REFUSED, node(FaultKind.HTTP_502), "node"),
    Odd("node", "has no eth_simulateV1", BY_VAULT, without_simulation, "eth_simulateV1"),
    Odd("node", "another chain's", REFUSED, lambda net, ctx: replace(ctx, chain_id=1), "chain"),
)
"""Kinds of the table. Safes by version and answers out of shape have tests of their own (see the page)."""


def judged(odd: Odd, adapter: str, report: StepReport) -> Row:
    """Return the row of a step, with what is wrong about it."""
    apart = [v for v in report.verdicts if v.check == UNTRADABLE]
    refusals = [v for v in report.verdicts if not v.ok]
    outcome = {"traded": APART if apart else TRADED, "refused": REFUSED}.get(report.outcome, report.outcome)
    words = "; ".join(dict.fromkeys(v.reason for v in (apart if outcome == APART else refusals)))
    allowed = {EITHER: {REFUSED, APART}, BY_VAULT: {REFUSED if adapter == "safe" else TRADED}}
    fits = outcome in allowed.get(odd.expected, {odd.expected})
    wrong = "" if fits else f"{outcome}, must be {odd.expected}"
    if fits and outcome != TRADED and odd.word.lower() not in words.lower():
        wrong = f"does not say {odd.word!r}"
    if fits and report.outcome == "traded" and report.settlement is not None and apart:
        moved = [v for v in apart if report.settlement.deltas[str(v.figures["token"])] != 0]
        wrong = wrong or ("a token that is left alone moved" if moved else "")
    return Row(odd, adapter, outcome, words, wrong)


def run(net: Localnet, folder: Path, odd: Odd, adapter: str) -> Row:
    """Run one kind with one adapter: a step, and one more to see that nothing is locked or done twice."""
    into_the_hour(net, 60)
    ctx = odd.set_up(net, kit.context(folder, net, adapter, odd.leave))
    try:
        report = step(ctx)
        row = judged(odd, adapter, report)
        net.faults.clear()
        again = step(ctx)
    except Exception as error:  # noqa: BLE001 - a traceback is what the table is to find
        return Row(odd, adapter, "traceback", f"{type(error).__name__}: {error}", "a traceback")
    wrong = row.wrong
    if report.outcome == "traded" and again.outcome != "done":
        wrong = wrong or f"the second step of the hour says {again.outcome}, not done"
    if again.outcome == "pending":
        wrong = wrong or "locked"
    return replace(row, wrong=wrong)


@contextmanager
def one(net: Localnet) -> Iterator[tuple[Localnet, Path]]:
    """Yield the market as it was made and a folder of its own."""
    with fresh(net, 4), tempfile.TemporaryDirectory() as folder:
        yield net, Path(folder)


def rows(kinds: Sequence[Odd], adapters: Sequence[str]) -> Iterator[Row]:
    """Run the kinds with the adapters, one market for all of them."""
    with kit.market() as net:
        for odd in kinds:
            for adapter in adapters:
                with one(net) as (made, folder):
                    yield run(made, folder, odd, adapter)


def page(kinds: Sequence[Odd], adapters: Sequence[str]) -> str:
    """Return docs/supported.md: what the table demands, kind by kind."""
    words = {TRADED: "supported", APART: "left alone, the rest trades", REFUSED: "the plan is refused"}
    words[BY_VAULT] = BY_VAULT
    words[EITHER] = "left alone, or the plan is refused where the vault's contract demands it"
    lines = [HEAD, ""]
    for of in dict.fromkeys(k.of for k in kinds):
        lines += [f"## {of.capitalize()}s", "", f"| kind | {' and '.join(adapters)} | must say |", "|---|---|---|"]
        lines += [f"| {k.name} | {words[k.expected]} | {k.word or '-'} |" for k in kinds if k.of == of]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Print the table; return 1 where a row is wrong."""
    if "--write" in sys.argv:
        PAGE.write_text(page(KINDS, tuple(kit.ADAPTERS)), encoding="utf-8")
    bad = 0
    for row in rows(KINDS, tuple(kit.ADAPTERS)):
        bad += bool(row.wrong)
        mark = f"WRONG ({row.wrong})" if row.wrong else "ok"
        print(
            f"{row.odd.of:7} {row.odd.name:42} {row.adapter:10} {row.outcome:12} {mark}: {row.words[:140]}", flush=True
        )
    print(f"{len(KINDS)} kinds x {len(kit.ADAPTERS)} adapters, {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

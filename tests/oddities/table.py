"""The conformance table: every odd kind with every adapter on the local chain, and the page made from it.

``python -m tests.oddities.table`` runs all of it, prints the table and fails on a wrong row; with ``--write`` it writes
docs/supported.md anew, with ``--only safe node`` it runs those kinds. A later adapter joins by a row of
``kit.ADAPTERS``, a later kind by a row of ``KINDS``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lake.errors import ForedriftError
from policy.execution.context import StepReport
from policy.execution.probes.sick import UNTRADABLE
from policy.localnet.market import Localnet
from tests.chain_fixtures import fresh, into_the_hour
from tests.oddities import kit
from tests.oddities.kinds import FEEDS, KEEPERS, TOKENS
from tests.oddities.odd import APART, BY_VAULT, LATER, REFUSED, TRADED, Odd
from tests.oddities.odd_nodes import NODES
from tests.oddities.odd_pools import POOLS
from tests.oddities.odd_safes import SAFES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "supported.md"
HEAD = """# What is supported, left alone and refused

Made from the conformance table (`make oddities`), which runs every row with every adapter on the local chain;
`python -m tests.oddities.table --write` writes this page anew, and a test holds it to the table.

A token that is *left alone* is named in the decision, in `foredrift status` and in a notification; the others trade
without it, and it is tried again at every step, so it rejoins by itself. `foredrift doctor` runs the same proof
(receive, send, buy, sell back, keep for a day; all simulated) before the first plan, and checks decimals, descriptions
and heartbeats of feeds, pools against the factory of their router, and the methods and the state of the node.

- Pools: Uniswap v2 pairs and v3 pools, traded by Router02 and SwapRouter of their own factory; empty and gapped pools
  are left out.
- Feeds: Chainlink's reading interface, in USD. Safes: 1.3.0, 1.4.1 and 1.5.0, signed by one owner, the keeper, or sent
  with a role of Zodiac Roles by a keeper that is no owner, or after enough of its owners signed (docs/vaults.md).
- An Enzyme fund takes one leg a call: the other tokens' legs follow in the next steps, a sick token's never.
- A Lagoon vault is v0.5, its Safe traded by role; requests that wait are netted, never a reason to stop.
- Nodes: what answers `eth_call`, `eth_getLogs`, `eth_feeHistory` and `eth_getTransactionReceipt`; `eth_simulateV1` for
  proofs; what they answer out of shape ends as a refusal that names the field, never as a guess.
- Keepers: accounts with a key, delegated ones too; nodes take no transaction from a contract.
- Tokens without decimals trade in whole units."""


@dataclass(frozen=True)
class Row:
    """What came of a kind with an adapter; ``wrong`` says what should not have been."""

    odd: Odd
    adapter: str
    outcome: str
    words: str
    wrong: str


KINDS: tuple[Odd, ...] = (*TOKENS, *POOLS, *FEEDS, *KEEPERS, *SAFES, *NODES)


def judged(odd: Odd, adapter: str, report: StepReport) -> Row:
    """Return the row of a step, with what is wrong about it."""
    apart = [v for v in report.verdicts if v.check == UNTRADABLE]
    refusals = [v for v in report.verdicts if not v.ok]
    outcome = {"traded": APART if apart else TRADED, "refused": REFUSED}.get(report.outcome, report.outcome)
    outcome = LATER if odd.expected == LATER and outcome in {"pending", "void"} else outcome
    words = "; ".join(dict.fromkeys(v.reason for v in (apart if outcome == APART else refusals))) or report.why
    allowed = {BY_VAULT: {TRADED if adapter == "reference" else REFUSED}}
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
    ctx = kit.context(folder, net, adapter, odd.leave)
    try:
        ctx = odd.set_up(net, ctx)
        report = kit.stepped(ctx)
        row = judged(odd, adapter, report)
        if kit.in_parts(ctx) and odd.expected == APART and row.outcome == TRADED and kit.left_alone(net, report):
            row = Row(odd, adapter, TRADED, "its turn has not come: another leg was traded", "")
        net.faults.clear()
        again = kit.stepped(ctx)
    except ForedriftError as error:
        fits = odd.expected == REFUSED and odd.word.lower() in str(error).lower()
        return Row(odd, adapter, REFUSED, str(error), "" if fits else f"refused, must be {odd.expected}: {odd.word!r}")
    except Exception as error:  # noqa: BLE001 - a traceback is what the table is to find
        return Row(odd, adapter, "traceback", f"{type(error).__name__}: {error}", "a traceback")
    wrong, trades = row.wrong, kit.executed(net, ctx)
    if report.outcome == "traded" and again.outcome != "done" and not (kit.in_parts(ctx) and again.outcome == "traded"):
        wrong = wrong or f"the second step of the hour says {again.outcome}, not done"
    if again.outcome == "pending":
        wrong = wrong or "locked"
    must = 1 if "traded" in {report.outcome, again.outcome} or odd.heals or odd.expected == LATER else 0
    if kit.in_parts(ctx):  # each step may land a leg, and the second one that of the first
        must = [report.outcome, again.outcome].count("traded") + (again.recovered == "landed")
    if trades != must:
        wrong = wrong or f"{trades} executions, must be {must}; the second step says {again.outcome}: {again.why}"
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
            for adapter in odd.adapters(adapters):
                with one(net) as (made, folder):
                    yield run(made, folder, odd, adapter)


def page(kinds: Sequence[Odd], adapters: Sequence[str]) -> str:
    """Return docs/supported.md: what the table demands, kind by kind."""
    words = {TRADED: "supported", APART: "left alone, the rest trades", REFUSED: "the plan is refused"}
    words |= {BY_VAULT: BY_VAULT, LATER: "pending with the reason, settled once the cause is gone"}
    lines = [HEAD, ""]
    for of in dict.fromkeys(k.of for k in kinds):
        these = [k for k in kinds if k.of == of]
        heads = sorted({a for k in these for a in k.adapters(adapters)}, key=adapters.index)
        lines += [f"## {of.capitalize()}s", "", f"| kind | {_listed(heads)} | must say |", "|---|---|---|"]
        for kind in these:
            own = kind.adapters(adapters)
            name = kind.name if own == heads else f"{kind.name} ({_listed(own)})"
            lines.append(f"| {name} | {words[kind.expected]} | {kind.word or '-'} |")
        lines.append("")
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    """Return names as people write them: one, two and three."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def main() -> int:
    """Print the table; return 1 where a row is wrong."""
    if "--write" in sys.argv:
        PAGE.write_text(page(KINDS, tuple(kit.ADAPTERS)), encoding="utf-8")
    part = [k for k in KINDS if "--only" not in sys.argv or k.of in sys.argv]
    bad, count, began = 0, 0, time.monotonic()
    for row in rows(part, kit.available()):
        bad, count = bad + bool(row.wrong), count + 1
        mark = f"WRONG ({row.wrong})" if row.wrong else "ok"
        print(
            f"{row.odd.of:7} {row.odd.name:42} {row.adapter:10} {row.outcome:12} {mark}: {row.words[:140]}", flush=True
        )
    took = time.monotonic() - began
    print(f"{len(part)} kinds with {len(kit.available())} adapters: {count} rows, {bad} wrong, {took:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

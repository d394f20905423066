"""Malformed answers of a node in every stage of a step and of a keeper's block: ``make nodefuzz`` sends 2,000 of them.

Each run starts from the same block. One answer (or a few in a row) of one step is damaged: a field is missing, null,
cut short, of another type or absurd. The step must end in a report or an error of the project's own, and the next
step with the sound node must leave everything as it should be: one execution, nothing open.
"""

from __future__ import annotations

import copy
import random
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lake.errors import ForedriftError
from lake.rpc import HttpTransport, Rpc
from policy.execution.engine import step
from policy.execution.records.journal import FINAL
from policy.execution.vaults.reference.logs import REBALANCED
from policy.execution.vaults.safe.adapter import SafeAccount
from policy.execution.vaults.safe.history import executions
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import reference_vault, safe_account, safe_spec
from tests.chain_fixtures import CLOCK, into_the_hour
from tests.execution.chain_matrix import LATER
from tests.execution.chainlab import MANDATE, TARGETS, chain_context, watched
from tests.execution.keeper_fuzz import BLOCKS, damaged_run, driven, kept

KINDS = ("reference", "safe", "reference, all evidence", "reference, by call", "keeper")
ODD: tuple[Any, ...] = (None, "", "0x", "0x0", "0xzz", "1", -1, 0, 1.5, True, False, [], {}, [None], [[]], {"a": None})
ABSURD = (
    "0x" + "f" * 64,
    "0x" + "f" * 16,
    "0x" + "f" * 300,
    "0x1",
    "0x" + "0" * 64,
    "0x7fffffffffffffff",
    "0x8" + "0" * 63,
)


def damaged(rng: random.Random, value: Any) -> Any:
    """Return ``value`` with one thing wrong with it, somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        made = dict(value)
        name = rng.choice(sorted(made))
        if rng.random() < 0.3:
            del made[name]
        else:
            made[name] = damaged(rng, made[name])
        return made
    if isinstance(value, list) and value and rng.random() < 0.75:
        made = list(value)
        at = rng.randrange(len(made))
        return [made[:at], made[:at] + made[at + 1 :], [*made, made[at]], _with(made, at, damaged(rng, made[at]))][
            rng.choice([0, 1, 2, 3, 3, 3])
        ]
    if isinstance(value, str) and len(value) > 10 and rng.random() < 0.6:
        at = rng.randrange(2, len(value))
        words = max(1, (len(value) - 2) // 64)
        at_word = 2 + 64 * rng.randrange(words)
        return rng.choice(
            [
                value[:at],
                value + "00",
                value[:at] + "g" + value[at + 1 :],
                value[2:],
                value[:at_word] + rng.choice(ABSURD)[2:].rjust(64, "0")[:64] + value[at_word + 64 :],
                value[:at_word] + "0" * 64 + value[at_word + 64 :],
            ]
        )
    return copy.deepcopy(rng.choice([*ODD, *ABSURD]))


def _with(made: list[Any], at: int, value: Any) -> list[Any]:
    return [*made[:at], value, *made[at + 1 :]]


class Damaging(HttpTransport):
    """Counts answers; damages ``many`` from number ``first`` on, those of ``method`` only where one is given."""

    def __init__(self, rng: random.Random, first: int | None = None, many: int = 1, method: str = "") -> None:
        super().__init__()
        self.rng, self.first, self.left, self.method = rng, first, many, method
        self.count, self.struck, self.stage = 0, Counter[tuple[str, str]](), "start"

    def post(self, url: str, body: Any, timeout: float) -> Any:
        answer = super().post(url, body, timeout)
        asked = {b["id"]: b["method"] for b in (body if isinstance(body, list) else [body])}
        for part in answer if isinstance(answer, list) else [answer]:
            self._damage(part, asked.get(part.get("id"), ""))
        return answer

    def _damage(self, part: dict[str, Any], method: str) -> None:
        if self.method in {"", method}:
            self.count += 1
            if self.first is not None and self.count > self.first and self.left > 0 and "result" in part:
                self.left -= 1
                self.struck[method, self.stage] += 1
                part["result"] = damaged(self.rng, part["result"])


@dataclass
class Tally:
    """What happened so far; ``wrong`` names what must not be."""

    runs: int = 0
    answers: int = 0
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def context(net: Localnet, folder: Path, kind: str, rpc: Rpc, **more: Any) -> Any:
    """A live context of one kind of account over ``rpc``."""
    if kind.startswith("safe"):
        safe = SafeAccount(
            rpc, safe_spec(net.world, TARGETS, mandate=replace(MANDATE, cooldown_s=0), signed="call" not in kind)
        )
        more |= {"vault": safe, "vault_address": safe.spec.address}
    ctx = chain_context(folder, net, rpc, **more)
    ctx = replace(ctx, limits=replace(ctx.limits, watch_blocks=6, bump_after=2))
    return watched(ctx, net) if "evidence" in kind else ctx


def executed(net: Localnet, kind: str) -> int:
    """How often the account has traded."""
    if kind.startswith("safe"):
        return len(executions(net.node.admin, net.world.extras["safe"], 0, "latest"))
    ask = {"address": net.world.extras["vault"], "topics": [REBALANCED], "fromBlock": "0x0"}
    return len(net.node.admin.call("eth_getLogs", [ask]))


def one(net: Localnet, folder: Path, kind: str, transport: Damaging, tally: Tally, name: str) -> None:
    """Run one damaged step and one with the sound node, on a snapshot that is taken back; add to ``tally``."""
    saved = net.snapshot()
    into_the_hour(net, 60 + next(LATER))
    rpc = Rpc(net.url, timeout=5, tries=2, transport=transport, sleep=lambda _: None)
    if "call" in kind:
        net.front.refused.add("eth_simulateV1")

    def note(stage: str) -> None:
        transport.stage = stage

    if kind == "keeper":
        outcome, wrong = damaged_run(net, context(net, folder, kind, rpc, checkpoint=note), folder, rpc, transport)
        tally.wrong += [f"{name}: {words} at {dict(transport.struck)}" for words in wrong]
        _booked(net, kind, transport, tally, name, outcome)
        net.revert(saved)
        return
    try:
        outcome = step(context(net, folder, kind, rpc, checkpoint=note)).outcome
    except ForedriftError as error:
        outcome = type(error).__name__
    except Exception as error:
        outcome = "TRACEBACK"
        tally.wrong.append(f"{name}: {type(error).__name__}: {error} at {dict(transport.struck)}")
    net.mine(3)
    sane = Rpc(net.url, timeout=5, tries=1)
    last = step(context(net, folder, kind, sane))
    for _ in range(3):
        if last.outcome in {"done", "waited"}:
            break
        net.mine(40 if last.outcome in {"pending", "refused"} else 1)
        last = step(context(net, folder, kind, sane))
    flights = context(net, folder, kind, sane).journal.flights()
    if last.outcome not in {"done", "waited", "traded"} or any(f.state not in FINAL for f in flights):
        tally.wrong.append(f"{name}: not recovered: {last.outcome} {last.why[:200]} at {dict(transport.struck)}")
    _booked(net, kind, transport, tally, name, outcome)
    net.front.refused.clear()
    net.revert(saved)


def _booked(net: Localnet, kind: str, transport: Damaging, tally: Tally, name: str, outcome: str) -> None:
    """Add a run to ``tally``; anything but one execution is wrong."""
    if executed(net, kind) != 1:
        tally.wrong.append(f"{name}: {executed(net, kind)} executions at {dict(transport.struck)}")
    tally.runs += 1
    tally.answers += sum(transport.struck.values())
    tally.struck += transport.struck
    tally.outcomes[outcome] += 1


def fuzz(
    net: Localnet, folder: Path, answers: int, seed: int, kinds: tuple[str, ...] = KINDS, *, progress: bool = False
) -> Tally:
    """Damage ``answers`` answers at least, over every method that a calm step of each kind calls."""
    tally, number = Tally(), 0
    calm: dict[str, Counter[str]] = {}
    for kind in kinds:
        seen = _Counting()
        saved = net.snapshot()
        into_the_hour(net, 60 + next(LATER))
        if "call" in kind:
            net.front.refused.add("eth_simulateV1")
        calmly = context(net, folder / f"calm {kind}", kind, Rpc(net.url, transport=seen, tries=1))
        if kind == "keeper":
            driven(net, kept(calmly, folder / "calm", calmly.node.rpc), BLOCKS, lambda _: None)
        else:
            step(calmly)
        net.front.refused.clear()
        net.revert(saved)
        calm[kind] = seen.methods
    while tally.answers < answers:
        rng = random.Random(f"{seed}/{number}")
        kind = kinds[number % len(kinds)]
        methods = sorted(calm[kind])
        method = rng.choice([*methods, ""])
        most = calm[kind][method] if method else sum(calm[kind].values())
        transport = Damaging(rng, rng.randrange(most), rng.choice([1, 1, 2, 4, 8]), method)
        one(net, folder / str(number), kind, transport, tally, f"{kind} {seed}/{number}")
        number += 1
        if progress:
            print(number, tally.answers, len(tally.wrong), *tally.wrong[-1:], file=sys.stderr, flush=True)
    return tally


class _Counting(HttpTransport):
    """Counts what is asked, by method."""

    def __init__(self) -> None:
        super().__init__()
        self.methods = Counter[str]()

    def post(self, url: str, body: Any, timeout: float) -> Any:
        self.methods.update(b["method"] for b in (body if isinstance(body, list) else [body]))
        return super().post(url, body, timeout)


def table(tally: Tally) -> str:
    """Methods down, stages across."""
    stages = sorted({s for _, s in tally.struck})
    lines = [f"| method | {' | '.join(stages)} |", f"|---|{'--:|' * len(stages)}"]
    for method in sorted({m for m, _ in tally.struck}):
        lines.append(f"| {method} | {' | '.join(str(tally.struck[method, s] or '') for s in stages)} |")
    counts = ", ".join(f"{k} {n}" for k, n in tally.outcomes.most_common())
    return "\n".join(
        [*lines, f"{tally.answers} damaged answers in {tally.runs} runs: {counts}; wrong: {len(tally.wrong)}"]
    )


def main() -> int:
    """Damage as many answers as the first argument says; print the table and what went wrong."""
    answers, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with ExitStack() as stack:
        extras = [reference_vault(TARGETS, mandate=MANDATE), safe_account()]
        net = stack.enter_context(start(extras=extras, at=CLOCK))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tally = fuzz(net, folder, answers, seed, progress=True)
    print(table(tally))
    print("\n".join(tally.wrong))
    return int(bool(tally.wrong))


if __name__ == "__main__":
    sys.exit(main())

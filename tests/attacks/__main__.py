"""``make attacks``: every attack, what it took from the first release and what it takes now. Exit 0 when all are held.

python -m tests.attacks [--only WORD ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from policy.localnet.accounts import dev_accounts
from tests.attacks import families
from tests.attacks.outcome import Attack, Outcome
from tests.chain_fixtures import CLOCK, fresh
from tests.execution.auction_kit import house
from tests.execution.vault_kit import bench

BEFORE: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "before.json").read_text())
"""By attack: the ``figure`` of the first release (revision e706a31), and ``how`` it was got: "run" by these functions,
"recorded" by hand when the fault was found."""


@contextmanager
def market() -> Iterator[Any]:
    """Yield a local market with pools, feeds and the reference vault."""
    from policy.localnet.market import start
    from policy.localnet.portfolio import reference_vault
    from tests.execution.chainlab import MANDATE, TARGETS

    with start(extras=[reference_vault(TARGETS, mandate=MANDATE)], at=CLOCK) as net:
        yield net


class Stage:
    """What the attacks need, made when first asked for and kept."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._made = stack, {}

    @contextmanager
    def setting(self, needs: str) -> Iterator[Any]:
        """Yield what an attack that ``needs`` it is run on."""
        if needs in {"vault", "listed"}:
            if needs not in self._made:
                holders = [dev_accounts()["investor"].address] if needs == "listed" else []
                self._made[needs] = self._stack.enter_context(bench(holders=holders))
            with self._made[needs].undo():
                yield self._made[needs]
        elif needs == "auctions":
            if needs not in self._made:
                self._made[needs] = self._stack.enter_context(house(hold_s=0, entry_bps=0, exit_bps=0))
            with self._made[needs].b.undo():
                yield self._made[needs]
        elif needs == "market":
            if needs not in self._made:
                self._made[needs] = self._stack.enter_context(market())
            with fresh(self._made[needs], 6) as net, tempfile.TemporaryDirectory() as folder:
                yield net, Path(folder)
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)


def run(attack: Attack, stage: Stage) -> Outcome:
    """Return what became of ``attack``; one that breaks is not held."""
    try:
        with stage.setting(attack.needs) as on:
            return attack.run(on)
    except Exception as error:  # a broken attack proves nothing
        traceback.print_exc()
        return Outcome(held=False, figure=f"the attack broke: {type(error).__name__}: {error}")


def row(attack: Attack, now: Outcome) -> dict[str, str | bool]:
    """Return one line of the table."""
    before = BEFORE.get(attack.key, {"figure": "not recorded", "how": ""})
    return {"attack": attack.key, "what": attack.what, "before": before["figure"], "how": before["how"],
            "now": now.figure, "held": now.held}  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description="Attack the money path.")
    parser.add_argument("--only", nargs="*", default=[], help="attacks whose name holds one of these words")
    parser.add_argument("--json", type=Path, help="write the table to this file, too")
    given = parser.parse_args(words)
    chosen = [a for a in families() if not given.only or any(w.lower() in a.key.lower() for w in given.only)]
    if not chosen:
        parser.error(f"no attack is named like {given.only}; there are {', '.join(a.key for a in families())}")
    rows = []
    with ExitStack() as stack:
        stage = Stage(stack)
        for attack in chosen:
            rows.append(row(attack, run(attack, stage)))
            print(f"{'held' if rows[-1]['held'] else 'NOT HELD':9s}{attack.key}", file=sys.stderr, flush=True)
    table = Table("attack", "first release", "now", "held", show_lines=True)
    for r in rows:
        table.add_row(f"{r['attack']}: {r['what']}", str(r["before"]), str(r["now"]), "yes" if r["held"] else "NO")
    Console().print(table)
    open_ = [str(r["attack"]) for r in rows if not r["held"]]
    print(f"{len(rows)} attacks, {len(rows) - len(open_)} held" + (f"; NOT HELD: {', '.join(open_)}" if open_ else ""))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    return int(bool(open_))


if __name__ == "__main__":
    sys.exit(main())

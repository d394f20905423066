"""Every vault adapter side by side: gas of its plans, and what each enforces on chain, as one table.

``python -m tests.laws.conformance`` prints it, with ``--write`` into docs/vaults.md, too; ``make conformance`` runs the
laws of all adapters first. A later adapter joins with its lab (see ``tests.laws.test_vault``).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pipelines.stages.vault import RULES, stated_by
from policy.execution.base import Capabilities
from tests.laws.test_vault import LABS, MARKETS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "vaults.md"
HEADING = "## What each enforces on chain"
PLANS = ("gas of the first plan", "gas of a later plan")
"""Plans of each adapter in their order; the first writes every slot of the vault for the first time."""
COOLDOWN_S = 100


@dataclass(frozen=True)
class Measured:
    """One adapter: legs and gas of plans that landed one after the other, by what they are, and what it enforces."""

    name: str
    legs: int
    gas: tuple[int, ...]
    enforces: Capabilities


def measured(name: str) -> Measured:
    """Land two plans with the adapter called ``name``; AssertionError where one does not land as checked."""
    with LABS[name][0]() as lab:
        told, legs, gas = lab.vault.describe(), [], []
        for _ in PLANS:
            plan = lab.plan()
            assert list(lab.vault.check(plan)) == []
            tx = lab.vault.build(plan)
            dry = lab.vault.simulate(tx, lab.keeper)
            receipt = lab.land(tx)
            settled = lab.vault.verify(receipt, plan)
            assert dry.ok
            assert settled.landed
            legs.append(len(plan.legs))
            gas.append(receipt.gas_used)
            lab.wait(COOLDOWN_S)
        assert len(set(legs)) == 1
        return Measured(name, legs[0], tuple(gas), told)


def table(rows: list[Measured]) -> str:
    """Return the adapters as a Markdown table, one column each."""
    lines = [f"| | {' | '.join(r.name for r in rows)} |", f"|---|{'--:|' * len(rows)}"]
    lines.append(f"| legs of the plan | {' | '.join(str(r.legs) for r in rows)} |")
    lines += [f"| {words} | {' | '.join(f'{r.gas[i]:,}' for r in rows)} |" for i, words in enumerate(PLANS)]
    for rule, words in RULES.items():
        lines.append(f"| {words} | {' | '.join('chain' if getattr(r.enforces, rule) else '-' for r in rows)} |")
    exposed = [stated_by(r.enforces)["exposure_ppb"] for r in rows]
    for field, words in (("day_ppb", "in a day"), ("ever_ppb", "for ever")):
        told = ["everything" if e is None else f"{e[field] / 100_000:g} bp" for e in exposed]
        lines.append(f"| a stolen keeper's key takes {words} | {' | '.join(told)} |")
    return "\n".join(lines)


def of_page(text: str) -> str:
    """Return the table below the heading in the text of docs/vaults.md; ValueError where there is none."""
    _, _, below = text.partition(f"{HEADING}\n")
    lines = [line for line in below.split("\n## ")[0].splitlines() if line.startswith("|")]
    if not lines:
        raise ValueError(f"docs/vaults.md has no table below {HEADING!r}: put one there")
    return "\n".join(lines)


def main() -> int:
    """Print the table of all adapters; write it into docs/vaults.md with ``--write``."""
    with MARKETS:
        made = table([measured(name) for name in LABS])
    print(made)
    if "--write" in sys.argv:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(text.replace(of_page(text), made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

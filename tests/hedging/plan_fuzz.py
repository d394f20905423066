"""Random hedge decisions behind a faulty node: books, prices, venues, faults, kills and reorganisations, by a seed.

    python -m tests.hedging.plan_fuzz --plans 10000 --seed 1

Counts decisions executed twice, plans the journal and the chain do not agree on, plans outside a limit, decisions
that left a hard limit or the band broken with nothing refused, and decisions that never ended.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pipelines.reports.check_words import CHECKS
from pipelines.vault_setup.hedge_rule import HedgeTermsOf, hedge_rule
from policy.execution.context import Limits, StepReport
from policy.execution.hedge_engine import HedgeContext, hedge_step
from policy.execution.records.audit import Audit
from policy.execution.records.journal import Journal
from policy.execution.vaults.hedge.state import E8, WAD, BookLine, HedgeLimits, PerpTerms
from policy.execution.vaults.simulated.chain import SimChain, SimChannel, SimSigner
from policy.hedging.decision import HedgeMandate
from tests.execution.faulty_node import KINDS
from tests.hedging.moving_blocks import STAGES, Killed
from tests.hedging.sim_account import ACCOUNT, KEEPER, HedgeWorld, Record, SimHedgeAccount, SimHedgeNode, chain_of

AN_ACCOUNT = 20  # decisions of one account, then another book
BEGIN = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
DAY_S = 86_400
USD = 10**6


@dataclass(slots=True)
class Found:
    """What a run showed; the first five are to be nothing."""

    doubled: int = 0
    lost: int = 0
    limits_broken: int = 0
    left_outside: int = 0
    unfinished: int = 0
    plans: int = 0
    landed: int = 0
    kills: int = 0
    reorganisations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unnamed: set[str] = field(default_factory=set)

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        wrong = (self.doubled, self.lost, self.limits_broken, self.left_outside, self.unfinished, len(self.unnamed))
        return not any(wrong)


@dataclass(slots=True)
class Desk:
    """One account with its chain, files and mandate; ``restart`` forgets what a process that was killed had read."""

    chain: SimChain
    node: SimHedgeNode
    folder: Path
    mandate: HedgeMandate
    journal: Journal = field(init=False)
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Open the files anew."""
        self.journal, self.audit = Journal(self.folder / "journal.jsonl"), Audit(self.folder / "audit.jsonl")

    def context(self, checkpoint=lambda _: None, **over) -> HedgeContext:
        """Return a context as a process that was just started has it."""
        chain, node = self.chain, self.node
        given = {
            "vault": SimHedgeAccount(node), "vault_address": ACCOUNT, "chain_id": chain.id, "node": node,
            "rule": hedge_rule(HedgeTermsOf(self.mandate, 12.0, vol=0.6)), "name": self.mandate.rule,
            "pools": lambda s: [node.block(s.head.number).world.pool()], "native_usd": lambda s: s.price_usd,
            "sender": KEEPER, "journal": self.journal, "audit": self.audit, "channels": {"public": SimChannel(node)},
            "wait": lambda head: chain.mine(), "clock": lambda: datetime.fromtimestamp(chain.head().time, UTC),
            "signer": SimSigner(KEEPER), "live": True, "checkpoint": checkpoint,
            "limits": replace(Limits(), epoch_s=12, watch_blocks=8),
        }  # fmt: skip
        return HedgeContext(**{**given, **over})


def random_lines(rng, price: float, most: float) -> tuple[BookLine, ...]:
    """Return a book with lines of about ``most`` coins: options of either sign, some soon to expire, pools, linear."""
    made = []
    for _ in range(int(rng.integers(1, 6))):
        kind = int(rng.choice([0, 1, 1, 2, 3]))
        size = int(rng.normal(0, most) * 1e6) * 10**12
        if kind == 2:
            low, high = price * rng.uniform(0.5, 1.05), price * rng.uniform(1.1, 2.0)
            made.append(BookLine(2, abs(size) * 50, int(low * 1e6) * 10**12, int(high * 1e6) * 10**12, 0))
        elif kind == 3:
            made.append(BookLine(3, size // 2, 0, 0, 0))
        else:
            last = BEGIN + int(rng.choice([rng.integers(200, 900), rng.integers(DAY_S, 60 * DAY_S)], p=[0.01, 0.99]))
            strike = int(price * np.exp(rng.normal(0, 0.15)) * 1e6) * 10**12
            made.append(BookLine(kind, size, strike, last, int(rng.uniform(0.2, 1.5) * 1e6) * 10**12))
    return tuple(made)


def random_world(rng) -> HedgeWorld:
    """Return an account with its book, a venue and a pool of any depth."""
    price = float(np.exp(rng.normal(7.5, 0.6)))
    terms = PerpTerms(
        int(rng.normal(0, 3e14)), int(rng.integers(0, 6)), int(rng.integers(0, 12)), 500, 250, bool(rng.random() < 0.03)
    )
    limits = HedgeLimits(
        cross_bps=int(rng.integers(2, 30)), max_hedge_bps=int(rng.choice([5_000, 20_000])),
        margin_bps=int(rng.choice([800, 1_500])), venue_bps=int(rng.choice([1_000, 5_000])),
        budget_ppb=int(rng.choice([10**6, 10**7])),
    )  # fmt: skip
    cash = int(np.exp(rng.uniform(np.log(1e5), np.log(1e7)))) * USD
    depth = int(np.exp(rng.uniform(np.log(1e5), np.log(1e8)))) * USD
    old = int(rng.choice([0, 90_000], p=[0.97, 0.03]))
    mark, size = int(price * E8), cash / USD / price * float(rng.choice([0.3, 1.0]))
    return HedgeWorld(cash, mark, random_lines(rng, price, size), BEGIN - old, depth, terms, limits, marked=mark)


def moved(world: HedgeWorld, rng) -> HedgeWorld:
    """Return the world after somebody else's block: prices, now and then a venue or an account that stops."""
    price = (
        max(int(world.price * np.exp(rng.normal(0, 0.06))), E8) if world.price else int(rng.uniform(500, 4_000) * E8)
    )
    new = replace(world.settled(), price=price) if world.price else replace(world, price=price, marked=price)
    draw = rng.random()
    if new.paused or new.terms.halted:
        on = draw < 0.5
        new = replace(new, paused=new.paused and on, terms=replace(new.terms, halted=new.terms.halted and on))
    elif draw < 0.02:
        new = replace(new, terms=replace(new.terms, halted=True))
    elif draw < 0.03:
        new = replace(new, paused=True)
    elif draw < 0.04:
        new = replace(new.settled(), price=0)
    elif draw < 0.06:
        new = replace(new, terms=replace(new.terms, funding=-new.terms.funding))
    elif draw < 0.08:
        lines = tuple(replace(x, quantity=-x.quantity) if x.kind < 2 else x for x in new.lines)
        new = replace(new, lines=lines)
    return new


def decide(desk: Desk, rng, found: Found) -> StepReport:
    """Take one decision, disturbed at random, and let it end with a sound node; return the last report."""
    kill = str(rng.choice(STAGES)) if rng.random() < 0.25 else None
    if rng.random() < 0.3:
        desk.node.kind, desk.node.left = str(rng.choice(KINDS)), int(rng.integers(1, 25))
        found.faults[desk.node.kind] += 1

    def stop(stage: str) -> None:
        if stage == kill:
            raise Killed(stage)

    try:
        report = hedge_step(desk.context(stop))
    except Killed:
        found.kills += 1
        desk.restart()
    if rng.random() < 0.2:
        desk.chain.reorg(int(rng.integers(1, 5)), keep=bool(rng.random() < 0.7), delay=int(rng.integers(0, 3)))
        found.reorganisations += 1
    desk.node.kind, desk.node.left = None, 0
    for _ in range(12):
        report = hedge_step(desk.context())
        if report.outcome not in {"pending", "void", "reverted", "traded"} and not report.recovered:
            break
        desk.chain.mine()
    else:
        found.unfinished += desk.context().journal.in_flight() is not None
    return report


def broken(r: Record, limits: HedgeLimits) -> bool:
    """Return whether a landed plan left a limit broken, in floating point and from its record alone."""
    unit = r.price / E8 * USD / WAD
    net, left = (x.spot + x.size + r.book for x in (r.before, r.after))
    held, holds = (x.spot + x.size for x in (r.before, r.after))
    crossed = net * left < 0 and abs(left) * unit > limits.cross_bps / 1e4 * r.before.nav * 1.000001 + 1
    outward = abs(left) > abs(net) * (1 + 1e-12)
    grown = abs(holds) > abs(held) and abs(holds) * unit > limits.max_hedge_bps / 1e4 * r.after.nav * 1.000001 + 1
    opened = abs(r.after.size) > abs(r.before.size)
    thin = opened and r.after.equity < limits.margin_bps / 1e4 * abs(r.after.size) * unit * 0.999999 - 1
    paid_in = r.after.cash < r.before.cash and r.after.equity > r.before.equity
    venue = paid_in and r.after.equity > limits.venue_bps / 1e4 * r.after.nav * 1.000001 + 1
    dear = r.before.nav - r.after.nav > limits.budget_ppb / 1e9 * r.before.nav * 1.000001 + 1
    return bool(crossed or outward or grown or thin or venue or dear)


def judged(desk: Desk, found: Found) -> None:
    """Hold the journal against the chain, and every plan on it against the limits."""
    ends = [f.plan.deadline for f in desk.context().journal.flights() if f.attempts]
    for _ in range(4):  # past the confirmations
        desk.chain.mine()
    while desk.chain.head().time <= max(ends, default=0) + 60:  # until then a lost plan may return
        desk.chain.mine()
    hedge_step(desk.context(live=False, signer=None))
    records, limits = desk.chain.world.records, desk.chain.world.limits
    flights = [f for f in desk.context().journal.flights() if f.attempts]
    landed = {f.plan.plan_hash: f.plan.decision_id for f in flights if f.state == "landed"}
    decisions = Counter(landed[r.plan_hash] for r in records if r.plan_hash in landed)
    found.doubled += sum(n - 1 for n in decisions.values())
    found.doubled += len(records) - len({r.nonce for r in records})
    found.lost += len({r.plan_hash for r in records} ^ set(landed))
    found.limits_broken += sum(broken(r, limits) for r in records)
    found.landed += len(records)


def outside(desk: Desk, report: StepReport) -> bool:
    """Return whether a decision that refused nothing and waited left the net delta beyond its trigger."""
    x, outer = report.expected.get("x"), report.expected.get("outer")
    if report.outcome != "waited" or x is None or outer is None:
        return False
    s = desk.context().vault.state()
    dust = 1.5 / s.nav_usd  # legs under a dollar are not traded
    return abs(x) > max(outer, report.expected["inner"]) + dust


def fuzz(plans: int, seed: int, folder: Path, begin: int = 0) -> Found:
    """Take the random decisions ``begin .. plans`` of ``seed``, ``AN_ACCOUNT`` an account."""
    found = Found()
    for first in range(begin, plans, AN_ACCOUNT):
        rng = np.random.default_rng([seed, first])
        chain = chain_of(random_world(rng), BEGIN, int(np.exp(rng.normal(np.log(1e9), 1.5))))
        mandate = HedgeMandate(gamma=float(np.exp(rng.uniform(1, 6)))) if rng.random() < 0.6 else HedgeMandate(
            delta_limit=float(rng.uniform(0.02, 0.5))
        )  # fmt: skip
        home = folder / str(first)
        home.mkdir(parents=True)
        desk = Desk(chain, SimHedgeNode(chain), home, mandate)
        for _ in range(min(AN_ACCOUNT, plans - first)):
            chain.mine()
            chain.set_world(moved(chain.world, rng))
            report = decide(desk, rng, found)
            found.plans += 1
            found.outcomes[report.outcome] += 1
            names = [v.check for v in report.verdicts if not v.ok]
            found.refused.update(names[:1])
            found.unnamed |= set(names) - set(CHECKS)
            found.left_outside += outside(desk, report)
        judged(desk, found)
    return found


def main() -> None:
    """Run and print."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--plans", type=int, default=10_000)
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--begin", type=int, default=0, help="go on from here: the same decisions as in one run")
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(given.plans, given.seed, Path(folder), given.begin)
    shown = {name: getattr(found, name) for name in Found.__slots__}
    print(json.dumps({k: sorted(v) if isinstance(v, set) else v for k, v in shown.items()}, indent=1))
    raise SystemExit(0 if found.clean else 1)


if __name__ == "__main__":
    main()

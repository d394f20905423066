"""A short straddle, a pool position and a yield token hedged through moving blocks on the local chain.

    python -m tests.hedging.moving_blocks --blocks 200 --seed 0

Every block the price moves, sometimes the volatility; then one hedge decision is taken, killed at a random stage in
some blocks (and taken again by a new run), with a reorganisation of up to two blocks in others. Prints how often the
net delta was outside the band after a decision, how often a decision was executed twice, and how much of the change of
everything's worth the attribution explains, with gas, fees and funding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lake.evm import Call, calldata, read, read_logs
from pipelines.vault_setup.hedge_rule import HedgeTermsOf, book_of_lines
from policy.execution.hedge_engine import hedge_step
from policy.execution.vaults.hedge.adapter import HEDGED, usd
from policy.execution.vaults.hedge.state import WAD
from policy.hedging import book as books
from policy.hedging.book import Book
from policy.hedging.book_attribution import Change, change, explained_share, repriced, total_change
from policy.hedging.decision import HedgeMandate
from policy.hedging.instruments import Option, Perp, Pool, Spot, Stable
from policy.localnet.market import Localnet
from tests.hedging.chain_kit import act, hedge_context, market, renew

STAGES = (
    "start", "snapshot", "decide", "simulate", "journal", "sign", "journal_signed", "send", "journal_sent", "watch",
    "journal_mined", "audit_settled",
)  # fmt: skip
GAMMA, MOVE = 50.0, 0.01
FUNDING = 3 * 10**14  # an eight hours: 3 bp


class Killed(BaseException):
    """The process was ended at a stage; no code may catch it."""


@dataclass(slots=True)
class Outcome:
    """What a run showed."""

    decisions: int = 0
    trades: int = 0
    outside: int = 0
    doubles: int = 0
    kills: int = 0
    reorgs: int = 0
    refused: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def json(self) -> dict[str, object]:
        """Return the figures."""
        whole = total_change(self.changes)
        return {
            "decisions": self.decisions, "trades": self.trades, "outside": self.outside, "doubles": self.doubles,
            "kills": self.kills, "reorgs": self.reorgs, "refused": self.refused,
            "explained": explained_share(self.changes), "pnl_usd": whole.pnl_usd,
            "unexplained_usd": whole.unexplained_usd, "terms_usd": dict(whole.terms),
        }  # fmt: skip


def worth(net: Localnet, ctx) -> Book:
    """Return everything held as a book at the newest block."""
    s, x = ctx.vault.state(), net.world.extras
    at = datetime.fromtimestamp(s.head.time, UTC)
    holder = net.accounts["investor"].address
    cash, rate = read(net.rpc, [
        Call(x["option_market"], "cash(address)", "int256", (holder,)),
        Call(x["rate_token"], "stEthPerToken()", "uint256"),
    ], s.head.hash)  # fmt: skip
    kinds = "bool,uint256,uint256,uint256"
    asks = [Call(x["option_market"], "series(uint256)", kinds, (i,)) for i in range(2)]
    series = [tuple(map(int, row)) for row in read(net.rpc, asks, s.head.hash)]  # type: ignore[call-overload]
    name, price = s.layout.asset.symbol, s.price_usd
    lines = {p.name: p for p in book_of_lines(s, at).positions}
    pool = lines["line 2"]
    assert isinstance(pool, Pool)
    units = [p for p in (lines["line 0"], lines["line 1"]) if isinstance(p, Option)]
    options = [
        Option(p.name, name, p.quantity, p.kind, p.strike, p.expiry, row[3] / WAD, price, "usd")
        for p, row in zip(units, series, strict=True)
    ]
    staked = 50.0
    held = (
        *options, pool, Spot("staked", name, staked, rate[0] / WAD, 0.03),
        Stable("option cash", float(cash[0]) / 1e6), Stable("cash", usd(s.standing.cash, s)),
        Spot("spot", name, s.standing.spot / WAD),
        Perp("perp", name, s.standing.size / WAD, price, usd(s.standing.equity, s), s.terms.funding / WAD),
    )  # fmt: skip
    return Book(at, {name: price}, held)


def pool_fees(net: Localnet, price: float) -> float:
    """Return what the pool position could collect now, USD: the manager's own answer to its holder."""
    kind = "collect((uint256,address,uint128,uint128))"
    holder = net.accounts["investor"].address
    data = "0x" + calldata(kind, (int(net.world.extras["lp_id"]), holder, 2**128 - 1, 2**128 - 1)).hex()
    ask = {"from": holder, "to": net.world.contracts["v3_positions"], "data": data}
    raw = bytes.fromhex(str(net.rpc.call("eth_call", [ask, "latest"]))[2:])
    amounts = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big")
    tokens = sorted((net.world.token(a).address.lower(), a) for a in ("ETH", "USDC"))
    units = {"ETH": price / 1e18, "USDC": 1e-6}
    return sum(n * units[a] for n, (_, a) in zip(amounts, tokens, strict=True))


def held_at(before: Book, now: Book) -> Book:
    """Return the positions of ``before`` with the marks of ``now``; margin is the venue's own, before a trade."""
    made = repriced(before, now)
    perp = next(p for p in now.positions if p.name == "perp")
    old = next(p for p in before.positions if p.name == "perp")
    assert isinstance(perp, Perp)
    assert isinstance(old, Perp)
    price = books.price_of(now, perp.asset)
    kept = Perp("perp", old.asset, old.quantity, price, perp.margin_usd + perp.quantity * (price - perp.entry))
    return Book(made.ts, made.spot, tuple(kept if p.name == "perp" else p for p in made.positions), made.nav_usd)


def hedge_records(net: Localnet, account: str) -> list[str]:
    """Return the decisions' plan hashes that the chain holds."""
    ask = {"address": account, "topics": [HEDGED], "fromBlock": "0x0", "toBlock": "latest"}
    return [str(log["topics"][2]) for log in read_logs(net.rpc, ask)]  # type: ignore[index]


def run(net: Localnet, folder: Path, blocks: int, seed: int, *, chaos: bool = True) -> Outcome:
    """Move ``blocks`` blocks and hedge after each; see the module."""
    rng = np.random.default_rng(seed)
    out, price, vol = Outcome(), 1_500.0, 0.7
    terms = HedgeTermsOf(HedgeMandate(gamma=GAMMA), 12.0)
    act(net, "deployer", net.world.extras["perp_market"], "set_terms(int256,int256,int256,bool)", FUNDING, 1, 5, False)
    renew(net, price, vol)
    ctx = hedge_context(folder, net, terms)
    before, earned = worth(net, ctx), pool_fees(net, price)
    for block in range(blocks):
        price *= float(np.exp(MOVE * rng.standard_normal()))
        if block % 10 == 9:
            vol = float(np.clip(vol * np.exp(0.02 * rng.standard_normal()), 0.5, 0.9))
            for i in range(2):
                act(net, "deployer", net.world.extras["option_market"], "post_vol(uint256,uint256)", i, int(vol * WAD))
        renew(net, price, vol)
        moved = worth(net, ctx)
        kill = STAGES[int(rng.integers(len(STAGES)))] if chaos and rng.random() < 0.2 else None
        reorg = int(rng.integers(1, 3)) if chaos and rng.random() < 0.15 else 0
        spent = _decide(net, folder, terms, out, kill, reorg)
        after, now = worth(net, ctx), pool_fees(net, price)
        out.changes.append(change(before, held_at(before, moved), after, spent / 1e18 * price, now - earned))
        before, earned = after, now
    records = hedge_records(net, ctx.vault_address)
    landed = [f for f in ctx.journal.flights() if f.state == "landed"]
    out.doubles = len(records) - len({f.plan.decision_id for f in landed})
    out.trades = len(landed)
    return out


def _decide(net: Localnet, folder: Path, terms: HedgeTermsOf, out: Outcome, kill: str | None, reorg: int) -> int:
    """Take one decision, killed and reorganised as told, until it is settled; return the gas spent, wei."""

    def stop(stage: str) -> None:
        if stage == kill:
            raise Killed(stage)

    out.decisions += 1
    before = net.node.admin.call("eth_getBalance", [net.accounts["keeper"].address, "latest"])
    try:
        hedge_step(hedge_context(folder, net, terms, checkpoint=stop if kill else lambda _: None))
    except Killed:
        out.kills += 1
    if reorg:
        net.reorg(reorg)
        out.reorgs += 1
    report = hedge_step(hedge_context(folder, net, terms))
    for _ in range(3):  # a reorganised plan lands again, or its deadline closes it
        if report.outcome not in {"pending", "void"}:
            break
        report = hedge_step(hedge_context(folder, net, terms))
    if report.outcome == "refused":
        out.refused.append(report.why)
    s = hedge_context(folder, net, terms).vault.state()
    last = hedge_step(hedge_context(folder, net, terms, live=False, signer=None))
    if last.outcome == "planned" or abs(s.net_units * s.price_usd / s.nav_usd) > last.expected.get("outer", 1e9):
        out.outside += 1
    now = net.node.admin.call("eth_getBalance", [net.accounts["keeper"].address, "latest"])
    return int(str(before), 16) - int(str(now), 16)


def main() -> None:
    """Run and print."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--blocks", type=int, default=200)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--calm", action="store_true", help="neither kills nor reorganisations")
    given = ask.parse_args()
    with market() as net, tempfile.TemporaryDirectory() as folder:
        found = run(net, Path(folder), given.blocks, given.seed, chaos=not given.calm)
    print(json.dumps(found.json(), indent=1))
    ok = not found.outside and not found.doubles and explained_share(found.changes) >= 0.99
    raise SystemExit(0 if ok else 1)


if __name__ == "__main__":
    main()

"""What must hold before a hedge is decided: chain, prices, source, account, position; each refusal by its own name.

What is worth knowing and stops nothing (a pool position out of its range, funding that turned) passes with its words.
"""

from __future__ import annotations

from policy.execution.base import Verdict
from policy.execution.checks import oracle_rules
from policy.execution.checks.verdicts import passed, refused
from policy.execution.hedge_sending import HedgeSending
from policy.execution.settling import contradicted
from policy.execution.vaults.hedge.adapter import hedged
from policy.execution.vaults.hedge.state import EXPIRED, GOOD, NO_PRICE, SOURCE_WORDS, STALE, WAD, HedgeState

POOL = 2  # kind of a line
ORACLE_CHECKS = {
    oracle_rules.NOT_POSITIVE: "oracle_not_positive",
    oracle_rules.STALE: "oracle_stale",
    oracle_rules.SECOND_BAD: "oracle_second",
    oracle_rules.DEVIATES: "oracle_deviates",
    oracle_rules.SEQUENCER: "sequencer_down",
}


def guards(ctx: HedgeSending, s: HedgeState) -> list[Verdict]:
    """Return the verdicts on chain, prices, source and the account itself at ``s``."""
    found: list[Verdict] = []
    if s.layout.chain_id != ctx.chain_id:
        found.append(refused("chain_id", f"the node serves chain {s.layout.chain_id}, configured is {ctx.chain_id}"))
    age = ctx.clock().timestamp() - s.head.time
    if age > ctx.limits.max_block_age_s:
        found.append(refused("block_old", f"the newest block is {age:.0f} s old", age_s=age))
    if s.paused:
        found.append(refused("account_paused", "the hedge account is paused"))
    found += _prices(s)
    found += _source(s)
    if s.price and s.standing.nav <= 0:
        found.append(refused("account_empty", "the hedge account holds nothing"))
    landed = [f for f in ctx.journal.flights() if f.state == "landed"]
    if landed and s.nonce <= landed[-1].plan.nonce:
        found.append(refused("node_lagging", f"the node shows plan nonce {s.nonce}, a later plan has landed"))
    elif landed:
        found += _position_kept(ctx, s)
    return [*found, *contradicted(ctx.journal, ctx.vault, s.nonce), *_out_of_range(s), *_turned(ctx, s)]


def _prices(s: HedgeState) -> list[Verdict]:
    """Return the refusal of a bad price, named by the oracle's own verdict on it."""
    if s.price:
        return []
    check = ORACLE_CHECKS.get(s.price_code, "oracle")
    words = f"the price of cash or the underlying is not good at this block: {oracle_rules.REASONS[s.price_code]}"
    return [refused(check, words, code=s.price_code)]


def _source(s: HedgeState) -> list[Verdict]:
    """Return the refusal of a delta source that is not good: stale volatilities and a stale delta are two things."""
    if s.source_verdict == GOOD:
        return []
    names = {STALE: "iv_stale" if s.lines else "delta_stale", NO_PRICE: "delta_unpriced", EXPIRED: "line_expired"}
    words = SOURCE_WORDS.get(s.source_verdict, f"refused with verdict {s.source_verdict}")
    if s.source_verdict == EXPIRED:
        gone = [str(i) for i, line in enumerate(s.lines) if line.kind < POOL and line.last <= s.head.time]
        words += f" (line {', '.join(gone)})"
    check = names.get(s.source_verdict, "delta_source")
    return [refused(check, f"the book's delta is {words}", posted_at=s.posted_at)]


def _position_kept(ctx: HedgeSending, s: HedgeState) -> list[Verdict]:
    """Return the refusal of a position that went away without a plan: the venue liquidated it."""
    last = [f for f in ctx.journal.flights() if f.mined is not None and f.state == "landed"][-1:]
    receipt = ctx.node.receipt(last[0].mined[0]) if last and last[0].mined else None
    record = None if receipt is None else hedged(ctx.vault_address, receipt.logs, last[0].plan.nonce)
    if record is None or s.nonce != last[0].plan.nonce + 1 or record.after.size == s.standing.size:
        return []
    reason = (
        f"the position at the venue was {record.after.size / WAD:g} after the last plan and is "
        f"{s.standing.size / WAD:g}: it was liquidated; look at the margin, then move the journal aside to go on"
    )
    return [refused("perp_liquidated", reason, before=record.after.size / WAD, now=s.standing.size / WAD)]


def _out_of_range(s: HedgeState) -> list[Verdict]:
    """Return what is known of pool lines outside their range: no fees, no gamma, a delta that stands still."""
    made = []
    for i, line in enumerate(s.lines if s.price else ()):
        lower, upper = line.strike / WAD, line.last / WAD
        if line.kind == POOL and not lower <= s.price_usd <= upper:
            side = "below: it is all underlying" if s.price_usd < lower else "above: it is all cash"
            words = f"line {i}, from {lower:,.2f} to {upper:,.2f} USD, has the price {side} and earns no fees"
            made.append(passed("lp_out_of_range", words, line=i, price_usd=s.price_usd))
    return made


def _turned(ctx: HedgeSending, s: HedgeState) -> list[Verdict]:
    """Return the note that longs pay now what shorts paid at the last decision, or the other way round."""
    if s.standing.size == 0:
        return []
    earlier = [line.body for line in ctx.audit.records() if line.body.get("event") == "hedge"][-1:]
    before = int(((earlier[0].get("inputs") or {}).get("funding") or 0) if earlier else 0)
    if before * s.terms.funding >= 0:
        return []
    pays, was = ("longs", "shorts") if s.terms.funding > 0 else ("shorts", "longs")
    mine = "the position pays" if (s.terms.funding > 0) == (s.standing.size > 0) else "the position earns"
    words = f"{pays} pay {1e4 * abs(s.terms.funding) / WAD:.2f} bp an eight hours now, {was} paid before: {mine}"
    return [passed("funding_flipped", words, before=before / WAD, now=s.terms.funding / WAD)]

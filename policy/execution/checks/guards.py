"""What must hold before a plan is made: pure functions from records to verdicts with their figures.

A feed is refused when it is stale by ITS OWN heartbeat, not positive, incomplete, frozen, in the future, or apart from
its second sources; the chain when it is the wrong one, behind, short of gas money, or the vault is paused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from lake.sequencer import Uptime, judge
from lake.units import BPS, Bps
from policy.base import ForecastView
from policy.execution.base import Plan, Quote, Snapshot, Verdict
from policy.execution.checks.verdicts import passed, refused

GAS_CEILING_GWEI = 1e5
"""Above ten times the most expensive block there ever was: wei taken for gwei, or a node that errs."""
FAR_ABOVE = 1_000.0
"""Gas this many times the most expensive recorded hour is a wrong unit; after quiet weeks it rises a hundredfold."""

FROZEN_ROUNDS = 6
"""Rounds in a row with one and the same answer that count as frozen. A live market feed with 8 decimals practically
never repeats its answer; a stable coin's may, so its rule sets ``frozen_rounds=0`` (off)."""


DEVIATION = Bps(200)
"""Feeds publish at a move of 0.5 to 1 %, so two honest sources differ by up to twice that; tighten for stable coins."""
LAG = Bps(500)
"""A half-hour average lags a moving market: 5 % is a move of the roughest half hours. Tighten with a shorter window."""
CLOCK_S = 120
"""Most that this machine's clock may differ from the chain's: a wrong clock makes old data look fresh."""
AHEAD_S = 15
"""Most that data may be dated after now: clocks kept by NTP differ by under a second, a block's time by its slot."""


@dataclass(frozen=True, slots=True)
class FeedRule:
    """What is required of one token's price. ``heartbeat_s`` comes from the feed's own documentation."""

    heartbeat_s: int = 3_600
    deviation_bps: Bps = DEVIATION  # most the feed may differ from any second source
    average_bps: Bps = LAG  # most it may differ from a pool's time-weighted average
    frozen_rounds: int = FROZEN_ROUNDS
    second_required: bool = False


@dataclass(frozen=True, slots=True)
class RoundAnswer:
    """One oracle round as the aggregator reports it; ``answer`` in feed units, may be negative."""

    round_id: int
    answer: int
    started_at: int
    updated_at: int
    answered_in_round: int


@dataclass(frozen=True, slots=True)
class OracleEvidence:
    """Second opinions at the snapshot's block, by token address; whatever is missing is not judged unless required.

    ``second_e8``: named second prices (USD x 1e8), for example {"exchange": ...}; ``average_e8``: named averages of
    pools, None where a pool does not tell; ``rounds``: recent rounds, newest last; ``sequencer``: (is up, since when)
    of an L2, None on L1.
    """

    second_e8: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    average_e8: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    rounds: Mapping[str, Sequence[RoundAnswer]] = field(default_factory=dict)
    sequencer: tuple[bool, int] | None = None


def feed(symbol: str, quote: Quote, rule: FeedRule, now: int) -> Verdict:
    """Return the verdict on one price: positive, and no older than its heartbeat. ``now`` is the block's time."""
    age = now - quote.updated_at
    figures: dict[str, str | int] = {
        "price_e8": quote.price_e8,
        "age_s": age,
        "heartbeat_s": rule.heartbeat_s,
        "round": str(quote.round_id),
        "token": quote.token,
    }
    if quote.price_e8 <= 0:
        return refused("oracle_not_positive", f"{symbol}: the feed answers {quote.price_e8}", **figures)
    if quote.updated_at <= 0 or age < 0:
        return refused("oracle_time", f"{symbol}: updated at {quote.updated_at}, the block is at {now}", **figures)
    if age > rule.heartbeat_s:
        reason = f"{symbol}: the price is {age} s old, its heartbeat is {rule.heartbeat_s} s"
        return refused("oracle_stale", reason, **figures)
    return passed("oracle_fresh", f"{symbol}: {age} s old", **figures)


def complete(symbol: str, rounds: Sequence[RoundAnswer], rule: FeedRule) -> Verdict:
    """Return the verdict on the newest rounds: finished, answered in their own round, moving."""
    last = rounds[-1]
    if last.updated_at == 0 or last.answered_in_round < last.round_id:
        reason = f"{symbol}: round {last.round_id} was answered in round {last.answered_in_round}"
        return refused("oracle_incomplete", reason, round=str(last.round_id), answered=str(last.answered_in_round))
    n = rule.frozen_rounds
    tail = rounds[-n:] if n else ()
    if n and len(tail) == n and len({r.answer for r in tail}) == 1:
        return refused("oracle_frozen", f"{symbol}: {n} rounds in a row answer {last.answer}", rounds=n)
    return passed("oracle_rounds", f"{symbol}: round {last.round_id}", round=str(last.round_id))


def dated(symbol: str, rounds: Sequence[RoundAnswer], now: int) -> list[Verdict]:
    """Return the refusal of rounds that say they were updated after the block at ``now``."""
    late = [r for r in rounds if r.updated_at > now]
    reason = (
        f"{symbol}: round {late[-1].round_id} is dated {late[-1].updated_at}, the block is at {now}" if late else ""
    )
    return (
        [refused("oracle_time", reason, round=str(late[-1].round_id), age_s=now - late[-1].updated_at)] if late else []
    )


def agrees(symbol: str, price_e8: int, name: str, second_e8: int, allowed_bps: Bps) -> Verdict:
    """Return the verdict on the distance to a second source, in basis points OF the second source, rounded up."""
    if second_e8 <= 0:
        return refused("oracle_second", f"{symbol}: {name} has no price", second_e8=second_e8)
    gap = -(-abs(price_e8 - second_e8) * BPS // second_e8)
    figures = {"price_e8": price_e8, "second_e8": second_e8, "gap_bps": gap, "allowed_bps": int(allowed_bps)}
    if gap > allowed_bps:
        reason = f"{symbol}: {gap} bp from {name}, allowed {allowed_bps} bp"
        return refused("oracle_deviates", reason, **figures)
    return passed("oracle_agrees", f"{symbol}: {gap} bp from {name}", **figures)


def sequencer(status: tuple[bool, int], now: int, grace_s: int) -> Verdict:
    """Return the verdict on an L2's sequencer, (is up, since when): up, and for longer than ``grace_s``."""
    up, since = status
    found = judge(0 if up else 1, since, now, grace_s)
    figures = {"since": since, "up_s": now - since, "grace_s": grace_s}
    made = passed if found.uptime is Uptime.UP else refused
    return made(f"sequencer_{found.uptime}", found.words, **figures)


def oracles(
    snapshot: Snapshot, rules: Mapping[str, FeedRule], evidence: OracleEvidence, grace_s: int = 3_600
) -> list[Verdict]:
    """Return the verdicts on every price of the snapshot. ``rules`` by token address; others get the default rule."""
    found: list[Verdict] = []
    quotes = {q.token: q for q in snapshot.quotes}
    for token in snapshot.tokens:
        rule = rules.get(token.address, FeedRule())
        quote = quotes.get(token.address)
        if quote is None:
            found.append(refused("oracle_missing", f"{token.symbol}: no price in the snapshot", token=token.address))
            continue
        own: list[Verdict] = []
        own.append(feed(token.symbol, quote, rule, snapshot.block_time))
        if evidence.rounds.get(token.address):
            own += dated(token.symbol, evidence.rounds[token.address], snapshot.block_time)
            own.append(complete(token.symbol, evidence.rounds[token.address], rule))
        seconds = evidence.second_e8.get(token.address, {})
        own += [agrees(token.symbol, quote.price_e8, n, p, rule.deviation_bps) for n, p in sorted(seconds.items())]
        for name, price_e8 in sorted(evidence.average_e8.get(token.address, {}).items()):
            if price_e8 is None:
                own.append(passed("oracle_average_absent", f"{token.symbol}: {name} does not tell"))
            else:
                own.append(agrees(token.symbol, quote.price_e8, name, price_e8, rule.average_bps))
        if rule.second_required and not seconds:
            own.append(refused("oracle_second", f"{token.symbol}: a second source is required, none answered"))
        found += [replace(v, figures={**v.figures, "token": token.address}) for v in own]
    if evidence.sequencer is not None:
        found.append(sequencer(evidence.sequencer, snapshot.block_time, grace_s))
    return found


def chain(snapshot: Snapshot, chain_id: int, now: datetime, max_age_s: int) -> list[Verdict]:
    """Return the verdicts on the chain itself: its id, its head against ``now`` (either may be wrong), the pause."""
    found = []
    if snapshot.chain_id != chain_id:
        reason = f"the node serves chain {snapshot.chain_id}, configured is {chain_id}"
        found.append(refused("chain_id", reason, found=snapshot.chain_id, required=chain_id))
    age = int(now.timestamp()) - snapshot.block_time
    if age > max_age_s:
        reason = f"the newest block is {age} s old, {max_age_s} s are allowed: the node is behind, or this clock ahead"
        found.append(refused("node_behind", reason, age_s=age, allowed_s=max_age_s))
    if -age > CLOCK_S:
        reason = (
            f"the newest block is dated {-age} s after this machine's clock, {CLOCK_S} s are allowed: the clock is "
            "behind (or the node lies); set it, for example with `timedatectl set-ntp true`"
        )
        found.append(refused("clock", reason, age_s=age, allowed_s=CLOCK_S))
    if snapshot.paused:
        found.append(refused("vault_paused", "the guardian has paused the vault"))
    return found or [passed("chain", f"chain {chain_id}, block {snapshot.block_number}", age_s=age)]


def gas_money(balance_wei: int, gas_limit: int, max_fee_wei: int, noop_wei: int) -> Verdict:
    """Return whether the sender can pay the plan at its cap and still a no-op of ``noop_wei`` besides."""
    need = gas_limit * max_fee_wei + noop_wei
    figures = {"balance_wei": str(balance_wei), "required_wei": str(need)}
    if balance_wei < need:
        reason = f"the keeper holds {balance_wei / 1e18:.6f} native coins, {need / 1e18:.6f} are required"
        return refused("gas_money", reason, **figures)
    return passed("gas_money", f"{balance_wei / 1e18:.6f} of {need / 1e18:.6f} required", **figures)


def quote_age(plan: Plan, head_number: int, head_time: int, max_blocks: int) -> Verdict:
    """Return whether the plan's quotes still count: made at most ``max_blocks`` ago, deadline ahead."""
    blocks, left = head_number - plan.block_number, plan.deadline - head_time
    if blocks > max_blocks or left <= 0:
        reason = f"the quotes are {blocks} blocks old ({max_blocks} allowed), {left} s before the deadline"
        return refused("quote_expired", reason, blocks=blocks, allowed=max_blocks, left_s=left)
    return passed("quote_age", f"{blocks} blocks", blocks=blocks, left_s=left)


def data_fresh(data_at: datetime | None, now: datetime, max_age: timedelta) -> Verdict:
    """Return whether the market data behind the decision are recent enough; None means there are none."""
    if data_at is None:
        return refused("data_missing", "there are no market data as of now")
    age = now - data_at
    if age < -timedelta(seconds=AHEAD_S):
        reason = f"the market data end {-age} after now: their times or this machine's clock are wrong"
        return refused("data_future", reason, age_s=age.total_seconds(), allowed_s=-float(AHEAD_S))
    if age > max_age:
        reason = f"the market data end {age} ago, {max_age} is allowed"
        return refused("data_stale", reason, age_s=age.total_seconds(), allowed_s=max_age.total_seconds())
    return passed("data_fresh", f"{age.total_seconds():.0f} s old", age_s=age.total_seconds())


def gas_plausible(gas_gwei: float, highest_gwei: float | None) -> Verdict:
    """Return whether the gas price can be one: not negative, below the ceiling, not far above its own record."""
    figures = {"gas_gwei": gas_gwei, "dearest_gwei": -1.0 if highest_gwei is None else highest_gwei}
    if not 0.0 <= gas_gwei <= GAS_CEILING_GWEI:
        reason = f"gas at {gas_gwei:.6g} gwei, no chain is above {GAS_CEILING_GWEI:g}: is it in wei?"
        return refused("gas_implausible", reason, **figures)
    if highest_gwei is not None and highest_gwei > 0.0 and gas_gwei > FAR_ABOVE * highest_gwei:
        reason = (
            f"gas at {gas_gwei:.6g} gwei, the most expensive hour on record had {highest_gwei:.6g}; collect newer gas "
            "(foredrift ingest), or look at the node"
        )
        return refused("gas_implausible", reason, **figures)
    return passed("gas_price", f"{gas_gwei:.6g} gwei", **figures)


def forecasts_issued(forecasts: ForecastView, now: datetime) -> list[Verdict]:
    """Return the refusal of forecasts that were issued after now: what they were made from is dated wrong."""
    late = [f for f in forecasts.values() if f.issued_at - now > timedelta(seconds=AHEAD_S)]
    if not late:
        return []
    last = max(late, key=lambda f: f.issued_at)
    reason = f"the {last.target} forecast of {last.key} is dated {last.issued_at - now} after now"
    return [refused("forecast_future", reason, forecasts=len(late))]

"""EIP-1559 bids in integers of wei: first bid, replacement, and the room kept for a cancelling no-op."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lake import evm
from lake.errors import ConfigError
from lake.universe import Chain
from policy.execution.submission.node import BlockHeader, FeeHistory

BUMP_PERCENT = 110
"""geth replaces a pooled transaction only when BOTH caps rise by at least 10 % (core/txpool PriceBump)."""

NOOP_GAS = 21_000


@dataclass(frozen=True, slots=True)
class FeeRules:
    """Limits of every bid.

    ``ceiling_wei``: most a transaction of ours may ever offer per gas; a plan stays a replacement below it, so that a
    no-op can always outbid it. ``min_tip_wei``: offered when recent blocks say nothing. ``blocks``: full blocks in a
    row a first bid survives (6 doubles the base fee); raise it when inclusion matters more than a locked balance.
    """

    ceiling_wei: int = 500 * 10**9
    min_tip_wei: int = 10**8
    blocks: int = 6
    elasticity: int = 2
    denominator: int = 8
    min_base_fee_wei: int = 0

    def __post_init__(self) -> None:
        if self.ceiling_wei <= self.min_tip_wei:
            raise ConfigError(f"the gas ceiling {self.ceiling_wei} wei must exceed the tip {self.min_tip_wei} wei")


@dataclass(frozen=True, slots=True)
class Bid:
    """Fee caps, wei per gas."""

    max_fee_wei: int
    tip_wei: int


def fee_rules(chain: Chain, ceiling_wei: int = 500 * 10**9, blocks: int = 6) -> FeeRules:
    """Return the rules of ``chain`` with its own fee constants."""
    return FeeRules(
        ceiling_wei=ceiling_wei,
        blocks=blocks,
        elasticity=chain.elasticity,
        denominator=chain.denominator,
        min_base_fee_wei=chain.min_base_fee_wei,
    )


def next_base_fee(head: BlockHeader, rules: FeeRules) -> int:
    """Return the exact base fee of the block after ``head`` (EIP-1559)."""
    return evm.next_base_fee(head.base_fee_wei, head.gas_used, head.gas_limit, rules)


def survives(base_fee_wei: int, blocks: int, denominator: int = 8, elasticity: int = 2) -> int:
    """Return the base fee after ``blocks`` full blocks, the smallest cap that is still valid then.

    A full block uses ``elasticity`` x the target, so the fee rises by (elasticity - 1) / denominator each time.
    """
    for _ in range(blocks):
        base_fee_wei += max(base_fee_wei * (elasticity - 1) // denominator, 1)
    return base_fee_wei


def usual_tip(history: FeeHistory, rules: FeeRules) -> int:
    """Return the median tip of recent blocks; empty ones report 0 and are left out, or the bid would be too low."""
    tips = [t for t, used in zip(history.tips_wei, history.used_ratios, strict=True) if used > 0 and t > 0]
    return max(rules.min_tip_wei, int(median(tips))) if tips else rules.min_tip_wei


def plan_ceiling(rules: FeeRules) -> int:
    """Return the highest cap a plan may offer: a no-op 10 % above it still fits under the ceiling."""
    return rules.ceiling_wei * 100 // BUMP_PERCENT - 1


def first_bid(head: BlockHeader, history: FeeHistory, rules: FeeRules, beyond: Sequence[Bid] = ()) -> Bid | None:
    """Return the bid for a new transaction, None where the market is above the ceiling.

    ``beyond``: earlier bids at the same account nonce that may still be pooled; the bid replaces every one of them.
    """
    tip = usual_tip(history, rules)
    base = next_base_fee(head, rules)
    fee = survives(base, rules.blocks, rules.denominator, rules.elasticity) + tip
    for old in beyond:
        fee, tip = max(fee, raised(old.max_fee_wei)), max(tip, raised(old.tip_wei))
    fee = min(fee, plan_ceiling(rules)) if not beyond else fee
    if fee > plan_ceiling(rules) or fee < base + tip:
        return None
    return Bid(fee, tip)


def raised(wei: int) -> int:
    """Return the least cap that replaces ``wei``: 10 % more, rounded up."""
    return -(-wei * BUMP_PERCENT // 100)


def bump(old: Bid, head: BlockHeader, history: FeeHistory, rules: FeeRules) -> Bid | None:
    """Return the replacement of a plan's ``old`` bid (both caps up 10 % at least), None at the ceiling."""
    tip = max(raised(old.tip_wei), usual_tip(history, rules))
    fee = max(
        raised(old.max_fee_wei), survives(next_base_fee(head, rules), 2, rules.denominator, rules.elasticity) + tip
    )
    return Bid(fee, tip) if fee <= plan_ceiling(rules) else None


def noop(old: Bid, head: BlockHeader, history: FeeHistory, rules: FeeRules) -> Bid:
    """Return the bid of the no-op that replaces ``old``; room for it was kept above every plan."""
    tip = max(raised(old.tip_wei), usual_tip(history, rules))
    fee = max(
        raised(old.max_fee_wei), survives(next_base_fee(head, rules), 2, rules.denominator, rules.elasticity) + tip
    )
    return Bid(min(fee, max(rules.ceiling_wei, raised(old.max_fee_wei))), tip)

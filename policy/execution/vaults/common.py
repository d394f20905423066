"""What every adapter makes alike from its books: the snapshot, the check of a plan as quoted, the settlement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lake.units import bps
from policy.execution.base import BlockHead, Leg, OtherVault, Plan, Quote, Receipt, Settlement, Snapshot, Token, Verdict
from policy.execution.checks.oracle_rules import Answer
from policy.execution.checks.rules import PPB, Clock, Flow, Mandate, VaultBook, after_trading, loss_left, trade


@dataclass(frozen=True, slots=True)
class Shares:
    """The vault as an account of its holders: the chain it is on, its shares, whether it has stopped trading."""

    chain_id: int
    supply: int  # 0 where there are no shares
    paused: bool = False


def snapshot_of(
    head: BlockHead,
    book: VaultBook,
    quotes: Sequence[Quote],
    clock: Clock,
    mandate: Mandate,
    shares: Shares,
    verdicts: Sequence[Verdict] = (),
) -> Snapshot:
    """Return the snapshot of a portfolio at ``head``; the budget left is what its clock has not counted yet."""
    nav = book.nav()
    return Snapshot(
        chain_id=shares.chain_id,
        block_number=head.number,
        block_hash=head.hash,
        block_time=head.time,
        base_fee_wei=head.base_fee_wei,
        tokens=book.tokens,
        holdings=book.holdings,
        quotes=tuple(quotes),
        targets_bps=book.targets_bps,
        nav=nav,
        supply=shares.supply,
        plan_nonce=clock.nonce,
        paused=shares.paused,
        max_turnover_bps=bps(mandate.turnover_bps),
        loss_budget_left=nav * loss_left(clock, mandate, head.time) // PPB,
        verdicts=tuple(verdicts),
        max_legs=mandate.max_legs,
    )


def quotes_of(tokens: Sequence[Token], prices_e8: Sequence[int], answers: Sequence[Answer | None]) -> list[Quote]:
    """Return the prices with the rounds they come from; a feed that does not answer has round and time 0."""
    return [
        Quote(t.address, p, a.round_id if a else 0, a.updated_at if a else 0)
        for t, p, a in zip(tokens, prices_e8, answers, strict=True)
    ]


def as_quoted(
    plan: Plan,
    book: VaultBook,
    clock: Clock,
    mandate: Mandate,
    now: int,
    allowed: Callable[[Leg], bool],
    flows: Sequence[Flow] = (),
) -> list[Verdict]:
    """Return the rules ``plan`` breaks when each leg spends ``amount_in`` and gets ``quoted_out``."""
    after, turnover, failed = trade(plan, book, mandate, lambda leg: (leg.amount_in, leg.quoted_out), allowed)
    return failed or after_trading(plan, book, after, turnover, clock, mandate, now, flows)[1]


def before_of(after: VaultBook, deltas: Mapping[str, int]) -> VaultBook:
    """Return the book before ``deltas`` moved: what a settlement starts from, without a read of old state."""
    held = [h - deltas.get(t.address, 0) for t, h in zip(after.tokens, after.holdings, strict=True)]
    return replace(after, holdings=tuple(max(0, h) for h in held))


def deltas_of(before: VaultBook, after: VaultBook) -> dict[str, int]:
    """Return the change of each token's balance."""
    held = zip(before.tokens, before.holdings, after.holdings, strict=True)
    return {token.address: b - a for token, a, b in held}


def settlement_of(
    receipt: Receipt,
    before: VaultBook,
    after: VaultBook,
    *,
    landed: bool,
    nav: tuple[int, int] | None = None,
    verdicts: Sequence[Verdict] = (),
) -> Settlement:
    """Return what a mined plan did, from the books around its block; ``nav`` before and after where a log tells it."""
    nav_before, nav_after = nav or (before.nav(), after.nav())
    return Settlement(
        landed=landed,
        deltas=deltas_of(before, after),
        nav_before=nav_before,
        nav_after=nav_after,
        gas_used=receipt.gas_used,
        gas_cost_wei=receipt.gas_used * receipt.effective_gas_price_wei,
        weights_after_bps=after.weights_bps(),
        verdicts=tuple(verdicts),
    )


def require_own(plan: Plan, address: str, chain_id: int | None = None) -> None:
    """Raise OtherVault where ``plan`` is not that vault's (on that chain): another one knows not its status."""
    if plan.vault.lower() != address.lower() or plan.chain_id != (chain_id or plan.chain_id):
        raise OtherVault(
            f"the plan {plan.decision_id} is of vault {plan.vault} on chain {plan.chain_id}, this run is for {address} "
            f"on chain {chain_id or plan.chain_id}: configure its own vault to finish it"
        )

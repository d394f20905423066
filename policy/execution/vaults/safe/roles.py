"""A Safe whose keeper is a member of a role (Zodiac Roles v2), not an owner: the default for a Safe.

The chain holds the keeper to swaps between the configured pools, to the Safe itself, within an allowance a token and
period (see ``scoping``); the register makes a plan land once, in time and on record. It knows no oracle and no targets:
those rules are enforced on this side before signing, as for any Safe. A stolen key loses at most the allowances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lake.evm import Call, calldata, head_of, read
from lake.rpc import Rpc
from policy.execution.base import Capabilities, Exposure, Leg, Plan, Snapshot, UnsignedTx, Verdict
from policy.execution.checks.rules import PPB, VaultBook, broken
from policy.execution.vaults.safe.adapter import DELEGATECALL, SafeSpec
from policy.execution.vaults.safe.registered import RegisteredSafe
from policy.execution.vaults.safe.scoping import ROLE, Scope, allowance_key

ANY = 2**255
"""An allowance that stops nothing."""
EXEC_ROLE = "execTransactionWithRole(address,uint256,bytes,uint8,bytes32,bool)"
ALLOWANCE = "uint128,uint128,uint64,uint128,uint64"
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be sold of a token, raw units; as Roles keeps it. ``time``: when it was last filled."""

    refill: int
    most: int
    period_s: int
    balance: int
    time: int

    def at(self, now: int) -> int:
        """Return what may be sold at ``now`` (AllowanceTracker.sol, _accruedAllowance)."""
        if not self.period_s or now < self.time + self.period_s or self.balance >= self.most:
            return self.balance
        return min(self.most, self.balance + (now - self.time) // self.period_s * self.refill)

    def within(self, seconds: int, now: int) -> int:
        """Return the most that may be sold in the ``seconds`` from ``now`` on."""
        held = max(self.at(now), self.most)
        return held + (seconds // self.period_s + 1) * self.refill if self.period_s else held

    def refills_at(self, now: int) -> int | None:
        """Return when more may be sold than now; None: never."""
        if not self.period_s or not self.refill:
            return None
        return self.time + ((now - self.time) // self.period_s + 1) * self.period_s


class RolesSafe(RegisteredSafe):
    """A Safe traded through the Roles contract at ``modifier``, within ``scope``."""

    def __init__(self, rpc: Rpc, spec: SafeSpec, modifier: str, scope: Scope) -> None:
        super().__init__(rpc, spec)
        self.modifier = modifier
        self.scope = scope

    def describe(self) -> Capabilities:
        """Return what Safe, Roles and register enforce; the exposure is by the allowances and prices of now."""
        return Capabilities(
            kind="safe with roles",
            atomic_legs=True,
            onchain_price_bound=False,  # only each router call's own minimum
            loss_budget=True,  # what is sold, and so lost, is at most the allowances
            progress_rule=False,
            plan_nonce=True,
            deadline=True,
            async_exit=False,
            in_kind_exit=False,
            pausable=True,  # its owners revoke the role
            permissioned=True,
            stolen_key=exposure_of(self),
        )

    def allowances(self, block_hash: str) -> dict[str, Allowance]:
        """Return each token's allowance at a block, by address."""
        tokens = [t.address for t in self.spec.tokens]
        asks = [Call(self.modifier, "allowances(bytes32)", ALLOWANCE, (allowance_key(t),)) for t in tokens]
        rows: list[Any] = list(read(self.rpc, asks, block_hash))
        return {t: Allowance(*row[:2], *row[2:]) for t, row in zip(tokens, rows, strict=True)}

    def snapshot(self, block: int | str = "latest") -> Snapshot:
        """Read the Safe at one block; the turnover is capped by what the allowances leave of the way to the targets."""
        found = super().snapshot(block)
        book = VaultBook(found.tokens, found.targets_bps, tuple(q.price_e8 for q in found.quotes), found.holdings)
        left = self.allowances(found.block_hash)
        given = {t: a.at(found.block_time) for t, a in left.items()}
        own, cap = _turnover(book, given), _turnover(self._ahead(book, found.block_hash), given)
        if own < _turnover(book, dict.fromkeys(given, ANY)):
            cap = min(cap, own)  # holders' money may not be netted: then the plan is sized on the account as it is
        return replace(found, max_turnover_bps=type(found.max_turnover_bps)(min(found.max_turnover_bps, cap)))

    def _ahead(self, book: VaultBook, block_hash: str) -> VaultBook:
        """Return the book whose way to the targets the allowances must reach for: the account's own."""
        del block_hash
        return book

    def check(self, plan: Plan, *, now: int | None = None) -> Sequence[Verdict]:
        """Return the rules ``plan`` breaks: the mandate's, and an allowance that is used up."""
        failed = list(super().check(plan, now=now))
        if failed:
            return failed
        head = head_of(self.rpc)
        at = now or head.time + self.spec.block_time_s
        return _over_allowance(plan, self.allowances(head.hash), {t.address: t.symbol for t in self.spec.tokens}, at)

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the batch as the role member's call: the register first, then the legs; a failure reverts all."""
        args = (self.spec.multisend, 0, self._multisend(plan), DELEGATECALL, ROLE, True)
        return UnsignedTx(plan.chain_id, self.modifier, calldata(EXEC_ROLE, *args))

    def _allowed(self, leg: Leg) -> bool:
        return super()._allowed(leg) and self.scope.allows(leg)


def exposure_of(vault: RolesSafe) -> Exposure:
    """Return what a thief with the keeper's key takes of ``vault`` at most, by the allowances and prices of now."""
    head = head_of(vault.rpc)
    return exposure(vault.book(head.hash), vault.allowances(head.hash), head.time)


def exposure(book: VaultBook, left: Mapping[str, Allowance], now: int) -> Exposure:
    """Return the most a thief with the keeper's key takes: all that the allowances let him sell, at the book's prices.

    He sells into pools he moves himself, so all of what is sold may be lost; of NAV there is no more than all.
    """
    total = book.total()

    def within(seconds: int) -> int:
        sold = sum(book.value(i, left[t.address].within(seconds, now)) for i, t in enumerate(book.tokens))
        return min(PPB, -(-sold * PPB // total)) if total else PPB

    return Exposure(within(DAY_S), within(90 * DAY_S), PPB)


def _turnover(book: VaultBook, left: Mapping[str, int]) -> int:
    """Return the basis points of NAV that may be sold towards the targets, every surplus shrunk alike; 1 at least."""
    total, share = book.total(), 1.0
    surplus = [
        max(0, book.value(i, h) - t * total // 10_000)
        for i, (h, t) in enumerate(zip(book.holdings, book.targets_bps, strict=True))
    ]
    for i, token in enumerate(book.tokens):
        if surplus[i]:
            share = min(share, book.value(i, left[token.address]) / surplus[i])
    return max(1, int(share * sum(surplus) * 10_000 / total)) if total and sum(surplus) else 10_000


def _over_allowance(plan: Plan, left: Mapping[str, Allowance], names: Mapping[str, str], now: int) -> list[Verdict]:
    sold: dict[str, int] = {}
    for leg in plan.legs:
        sold[leg.token_in] = sold.get(leg.token_in, 0) + leg.amount_in
    failed = []
    for token, amount in sold.items():
        given = left[token].at(now)
        if amount <= given:
            continue
        more = left[token].refills_at(now)
        when = "it never refills: run foredrift vault roles" if more is None else f"it refills at {more} (Unix seconds)"
        reason = f"the plan sells {amount} of {names[token]}, the role's allowance leaves {given}; {when}"
        failed.append(broken("allowance", reason, token=token, sold=str(amount), left=str(given)))
    return failed

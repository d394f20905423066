"""Adapter of a Lagoon v0.5 vault (ERC-7540): a Safe traded by role holds its assets, holders come and go by request.

The chain holds the keeper to its role in the Safe (see ``safe.roles``): swaps between configured pools, to the Safe
itself, within the allowances. It checks neither oracle nor targets, and believes whatever valuation its manager pushes
and the Safe settles with (see ``nav``). Requested deposits and redemptions are read with every snapshot: a decision is
made on what the portfolio will be once they are settled, and no plan spends the cash that redemptions wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError
from lake.evm import head_of
from lake.rpc import Rpc
from policy.execution.base import Capabilities, Flows, Plan, Snapshot, Verdict
from policy.execution.checks.rules import VaultBook, broken
from policy.execution.checks.verdicts import passed
from policy.execution.vaults.lagoon.requests import Requests, read_requests
from policy.execution.vaults.safe.adapter import SafeSpec, SafeState
from policy.execution.vaults.safe.roles import RolesSafe
from policy.execution.vaults.safe.scoping import Scope


class LagoonVault(RolesSafe):
    """A Lagoon vault at ``investors``; ``spec.address`` is its Safe, traded through the Roles contract ``modifier``."""

    def __init__(self, rpc: Rpc, spec: SafeSpec, modifier: str, scope: Scope, investors: str) -> None:
        super().__init__(rpc, spec, modifier, scope)
        self.investors = str(to_checksum_address(investors))

    def describe(self) -> Capabilities:
        """Return what Safe, Roles, register and vault enforce; who may take part is read from the chain."""
        return replace(super().describe(), kind="lagoon", async_exit=True, permissioned=self.requests().listed_only)

    def requests(self, block: int | str = "latest") -> Requests:
        """Read requests and valuation at one block; ConfigError where the vault is of another Safe or asset."""
        found = read_requests(self.rpc, self.investors, block)
        cash = self.spec.tokens[0]
        if found.safe != self.spec.address:
            raise ConfigError(f"the Lagoon vault {self.investors} pays into {found.safe}, set [vault] address to it")
        if found.asset != cash.address:
            raise ConfigError(
                f"the Lagoon vault {self.investors} counts in {found.asset}; put that token first in the portfolio, "
                f"{cash.symbol} is first"
            )
        return found

    def snapshot(self, block: int | str = "latest") -> Snapshot:
        """Read the Safe and the requests of the vault's holders at one block."""
        found = super().snapshot(block)
        asked = self.requests(found.block_hash)
        flows = Flows(asked.coming, asked.leaving(found.nav))
        told = [*found.verdicts, *_pending(flows, found)]
        return replace(found, supply=asked.supply, paused=asked.paused, flows=flows, verdicts=tuple(told))

    def check(self, plan: Plan, *, now: int | None = None) -> Sequence[Verdict]:
        """Return the rules ``plan`` breaks: as for a Safe traded by role, a paused vault, cash that others wait for."""
        failed = list(super().check(plan, now=now))
        head = head_of(self.rpc)
        asked, held = self.requests(head.hash), self.state(head.hash).book
        if asked.paused:
            failed.append(broken("paused", f"the Lagoon vault {self.investors} is paused: its owner resumes it"))
        return failed + _owed(plan, held, asked.leaving(held.nav()))

    def _ahead(self, book: VaultBook, block_hash: str) -> VaultBook:
        """Return the book once every request is settled: what is to be sold for it needs room in the allowances."""
        asked = self.requests(block_hash)
        ahead = _moved(book, asked.coming - asked.leaving(book.nav()))
        return ahead if ahead.total() > 0 else book

    def _judged(self, plan: Plan, s: SafeState, failed: list[Verdict]) -> list[Verdict]:
        """Return ``failed`` without the refused progress, where the plan leads to the targets once requests settle."""
        asked = self.requests(s.head.hash)
        if not asked.coming and not asked.leaving_shares:
            return failed
        net = asked.coming - asked.leaving(s.book.nav())
        before, after = _moved(s.book, net), _moved(traded(plan, s.book), net)
        if min(before.total(), after.total()) > 0 and after.distance() <= before.distance():
            return [v for v in failed if v.check != "progress"]
        return failed


def traded(plan: Plan, book: VaultBook) -> VaultBook:
    """Return ``book`` after each leg spends its ``amount_in`` and gets its ``quoted_out``."""
    held = list(book.holdings)
    for leg in plan.legs:
        held[book.index(leg.token_in)] -= leg.amount_in
        held[book.index(leg.token_out)] += leg.quoted_out
    return replace(book, holdings=tuple(held))


def _moved(book: VaultBook, net: int) -> VaultBook:
    """Return ``book`` with ``net`` more of the accounting asset; it may owe more than it has."""
    return replace(book, holdings=(book.holdings[0] + net, *book.holdings[1:]))


def _pending(flows: Flows, found: Snapshot) -> list[Verdict]:
    """Return what is told of requests that wait: they are netted, and stop nothing."""
    if not flows.coming and not flows.leaving:
        return []
    cash = found.tokens[0]
    coming, leaving = (f"{amount / 10**cash.decimals:,.6g} {cash.symbol}" for amount in (flows.coming, flows.leaving))
    words = f"holders wait to bring {coming} and to take {leaving}: the decision is made on what is left after both"
    return [passed("requests_pending", words, coming=str(flows.coming), leaving=str(flows.leaving))]


def _owed(plan: Plan, book: VaultBook, owed: int) -> list[Verdict]:
    """Return the refusal of a plan that spends cash which requested redemptions wait for."""
    cash, left = book.tokens[0], traded(plan, book).holdings[0]
    if left >= min(owed, book.holdings[0]):
        return []
    words = (
        f"the plan leaves {left / 10**cash.decimals:,.6g} {cash.symbol}, requested redemptions wait for "
        f"{owed / 10**cash.decimals:,.6g}: settle them first (foredrift vault settle), or plan less"
    )
    return [broken("cash_owed", words, left=str(left), owed=str(owed))]

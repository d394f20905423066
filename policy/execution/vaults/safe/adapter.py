"""Adapter of a Safe account (1.3.0, 1.4.1, 1.5.0): the same plan as one MultiSend batch, signed by the Safe's owners.

On chain a Safe enforces that the batch is whole or not at all, that its owners signed it, and (with signatures, see
``owners``) that it runs once. It knows no oracle, no targets and no budget: those rules are enforced here, before
signing, by the reference vault's arithmetic; ``describe`` says which are which. Whoever holds the owners' keys can
take everything. Contracts: npm @gnosis.pm/safe-contracts 1.3.0,
@safe-global/safe-contracts 1.4.1, @safe-global/safe-smart-account 1.5.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from lake.answers import data
from lake.errors import ConfigError, RpcError
from lake.evm import BlockHeader, Call, calldata, head_of, read, selector, try_read
from lake.rpc import Rpc
from policy.execution.base import (
    AttemptFate,
    Capabilities,
    Leg,
    Plan,
    Quote,
    Receipt,
    Settlement,
    Simulation,
    Snapshot,
    Token,
    UnsignedTx,
    Verdict,
)
from policy.execution.checks.oracle_rules import PriceSource, codes, verdicts
from policy.execution.checks.rates import Rate, Seen, judged
from policy.execution.checks.rules import Clock, Mandate, VaultBook, before_trading, broken
from policy.execution.routing.yields import YieldVault, read_yields
from policy.execution.submission.node import read_receipt
from policy.execution.submission.reverts import WHOLE, missed, why_reverted
from policy.execution.submission.simulate_tx import balances, dry_run
from policy.execution.vaults.common import (
    Shares,
    as_quoted,
    before_of,
    quotes_of,
    require_own,
    settlement_of,
    snapshot_of,
)
from policy.execution.vaults.reference.adapter import plan_hash
from policy.execution.vaults.reference.logs import moved
from policy.execution.vaults.reference.state import Layout, evidence_of, feed_views
from policy.execution.vaults.safe.history import clock_of, executed, executions, window_start

ZERO = "0x" + "0" * 40
WORD_BYTES = 32
GUARD_SLOT = "0x" + keccak(text="guard_manager.guard.address").hex()
"""Where a Safe keeps its transaction guard (GuardManager.sol)."""
VERSIONS = ("1.3.0", "1.4.1", "1.5.0")
"""Safes whose hashes (the same since 1.3.0) and events are known; an L2 Safe tells the same VERSION."""
CALL, DELEGATECALL = 0, 1
EXEC = "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)"
APPROVE = "approve(address,uint256)"
# EIP-712 types of Safe.sol 1.5 (unchanged since 1.3)
DOMAIN = "uint256 chainId,address verifyingContract"
SAFE_TX = (
    "address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,"
    "uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce"
)

SignTyped = Callable[[Mapping[str, Any]], bytes]
"""Signs EIP-712 typed data and returns 65 bytes r, s, v."""


@dataclass(frozen=True, slots=True)
class SafeSpec:
    """What a Safe cannot hold itself and this side enforces instead.

    ``owners``: address -> how it signs. Empty: the sender must be an owner and vouches for the batch by sending it
    (Safe's pre-validated signature); the Safe's nonce then does not bind the batch, and ``describe`` says so.
    ``calls``: allow-listed (target, function signature) pairs.
    """

    address: str
    multisend: str  # MultiSendCallOnly
    chain_id: int
    tokens: tuple[Token, ...]  # the first is the accounting asset
    targets_bps: tuple[int, ...]
    sources: tuple[PriceSource, ...]
    calls: tuple[tuple[str, str], ...]
    mandate: Mandate = field(default_factory=Mandate)
    owners: Mapping[str, SignTyped] = field(default_factory=dict, repr=False)
    sender: str = ZERO  # who sends, where ``owners`` is empty
    sequencer: str | None = None
    sequencer_grace_s: int = 3_600
    block_time_s: int = 12
    yields: tuple[YieldVault, ...] = ()  # tokens that are shares; their feed is their asset's
    seen: Seen = field(default_factory=dict)  # their rates as last accepted


@dataclass(frozen=True, slots=True)
class SafeState:
    """The account at one block; ``codes`` are the oracle's verdicts on the prices in ``book``."""

    head: BlockHeader
    book: VaultBook
    codes: tuple[int, ...]
    quotes: tuple[Quote, ...]
    clock: Clock
    rates: tuple[Rate, ...] = ()  # of the yield-bearing tokens


def batch(plan: Plan) -> bytes:
    """Return MultiSend's packed list: for every leg the exact approval, the swap, the approval back to 0."""
    return packed(calls_of(plan))


def calls_of(plan: Plan) -> list[tuple[str, bytes]]:
    """Return (contract, data) of every call of a plan, in order."""
    return [
        call
        for leg in plan.legs
        for call in (
            (leg.token_in, calldata(APPROVE, leg.target, leg.amount_in)),
            (leg.target, leg.calldata),
            (leg.token_in, calldata(APPROVE, leg.target, 0)),
        )
    ]


def packed(calls: Sequence[tuple[str, bytes]]) -> bytes:
    """Return ``calls`` as MultiSend takes them: operation, address, value, length, data, one after the other."""
    head = bytes([CALL])
    return b"".join(
        head + bytes.fromhex(to[2:]) + bytes(32) + len(data).to_bytes(32, "big") + data for to, data in calls
    )


def commitment(plan: Plan) -> str:
    """Return the first 160 bits of the hash over the whole plan, as the address a Safe never pays to.

    It travels as ``refundReceiver``, which Safe.sol ignores at a gas price of 0 but includes in the signed hash: so
    the hash on chain binds deadline, NAV floor and minimum amounts too, which the batch itself does not hold.
    """
    return to_checksum_address(plan_hash(plan)[:20])


def safe_tx(safe: str, multisend: str, chain_id: int, nonce: int, data: bytes, receiver: str) -> dict[str, Any]:
    """Return the EIP-712 typed data the owners sign: a delegate call to ``multisend`` with ``data``, at gas price 0."""
    fields = (multisend, 0, data, DELEGATECALL, 0, 0, 0, ZERO, receiver, nonce)  # in the order of SAFE_TX
    return {
        "types": {"EIP712Domain": _fields(DOMAIN), "SafeTx": _fields(SAFE_TX)},
        "primaryType": "SafeTx",
        "domain": {"chainId": chain_id, "verifyingContract": safe},
        "message": dict(zip([f["name"] for f in _fields(SAFE_TX)], fields, strict=True)),
    }


def _fields(listed: str) -> list[dict[str, str]]:
    return [dict(zip(("type", "name"), one.split(" "), strict=True)) for one in listed.split(",")]


class SafeAccount:
    """A Safe as a vault. Every rule of the mandate but atomicity is enforced on this side."""

    def __init__(self, rpc: Rpc, spec: SafeSpec) -> None:
        if not len(spec.tokens) == len(spec.targets_bps) == len(spec.sources):
            raise ConfigError("a Safe needs one target and one source for each of its tokens")
        self.rpc = rpc
        self.spec = spec
        grace = spec.sequencer_grace_s
        self._known = False  # whether its version was found to be a supported one
        self._layout = Layout(spec.chain_id, ZERO, spec.tokens, spec.sources, spec.sequencer, grace)

    def describe(self) -> Capabilities:
        """Return what the account enforces on chain: the whole batch or nothing, and each signed batch once."""
        return Capabilities(
            kind="safe",
            atomic_legs=True,
            onchain_price_bound=False,  # only each router call's own minimum
            loss_budget=False,
            progress_rule=False,
            plan_nonce=bool(self.spec.owners),
            deadline=False,  # only each router call's own
            async_exit=False,
            in_kind_exit=False,
            pausable=False,
            permissioned=True,
        )

    def state(self, block: int | str = "latest") -> SafeState:
        """Read the account at one block."""
        head = head_of(self.rpc, block)
        book, found, quotes, rates = self._valued(head)
        nonce = self._nonce(head.hash)
        done = self._done(window_start(self.spec.mandate, head, self.spec.block_time_s), head.number)
        clock = clock_of(self.rpc, self.spec.address, book, self.spec.mandate, nonce, done)
        return SafeState(head, book, found, quotes, clock, rates)

    def book(self, block: int | str = "latest") -> VaultBook:
        """Return what the account holds at which prices, and nothing of its plans: their register may not be there."""
        return self._valued(head_of(self.rpc, block))[0]

    def _valued(self, head: BlockHeader) -> tuple[VaultBook, tuple[int, ...], tuple[Quote, ...], tuple[Rate, ...]]:
        """Return the book at a block, the codes of prices that are none, the quotes and the rates of shares."""
        asks = feed_views(self._layout)
        answers: list[Any] = try_read(self.rpc, list(asks.values()), head.hash)
        evidence = evidence_of(self._layout, dict(zip(asks, answers, strict=True)))
        prices, found = codes(self.spec.sources, evidence, head.time, self._layout.grace_s)
        held = balances(self.rpc, self.spec.address, self.spec.tokens, head.hash)
        prices, rates = self._with_rates(prices, held, head)
        quotes = quotes_of(self.spec.tokens, prices, evidence.first)
        book = VaultBook(self.spec.tokens, self.spec.targets_bps, prices, held)
        return book, found, tuple(quotes), rates

    def _with_rates(
        self, prices: Sequence[int], held: Sequence[int], head: BlockHeader
    ) -> tuple[tuple[int, ...], tuple[Rate, ...]]:
        """Return prices with each share's as its asset's price times what a share is worth, and the rates read."""
        places = {t.address: i for i, t in enumerate(self.spec.tokens)}
        given, rates = list(prices), []
        found = read_yields(self.rpc, self.spec.yields, head.hash, self.spec.address)
        for vault, state in zip(self.spec.yields, found, strict=True):
            i = places[vault.address]
            scale = state.exponent - vault.share_decimals + vault.asset_decimals
            given[i] = given[i] * state.assets // 10**scale
            halted = not state.max_in or (held[i] > 0 and not state.max_out)
            rates.append(Rate(self.spec.tokens[i].symbol, vault.address, state.assets, head.time, halted))
        return tuple(given), tuple(rates)

    def rate_verdicts(self, s: SafeState) -> list[Verdict]:
        """Return the verdict on every yield-bearing token's rate."""
        return [judged(rate, self.spec.seen.get(rate.token)) for rate in s.rates]

    def price_verdicts(self, s: SafeState) -> list[Verdict]:
        """Return a failed verdict for every token without a good price."""
        return _priced(s)

    def snapshot(self, block: int | str = "latest") -> Snapshot:
        """Read holdings, prices and the used budget at one block hash; every bad price is a failed verdict."""
        s = self.state(block)
        found = [*_priced(s), *self.rate_verdicts(s)]
        what = (s.head, s.book, s.quotes, s.clock, self.spec.mandate)
        return snapshot_of(*what, Shares(self.spec.chain_id, 0), found)  # a Safe has no shares

    def seal(self, plan: Plan) -> Plan:
        """Return ``plan`` with the Safe's transaction hash, which the chain recomputes and its owners sign."""
        return replace(plan, plan_hash=self._hash(plan))

    def check(self, plan: Plan, *, now: int | None = None) -> Sequence[Verdict]:
        """Return the mandate's rules ``plan`` breaks if it lands in the next block; none of them is on chain."""
        s = self.state()
        at, number = now or s.head.time + self.spec.block_time_s, s.head.number + 1
        failed = before_trading(plan, s.book, s.clock, self.spec.mandate, at, number)
        if plan.plan_hash != self._hash(plan) or plan.vault != self.spec.address or plan.chain_id != self.spec.chain_id:
            failed.append(broken("plan hash", "the hash does not belong to this batch, this Safe and this chain"))
        touched = {s.book.tokens[0].address, *(t for leg in plan.legs for t in (leg.token_in, leg.token_out))}
        doubts = [*_priced(s), *(v for v in self.rate_verdicts(s) if not v.ok)]
        failed += [v for v in doubts if v.figures["token"] in touched]  # a bad price stops no other token
        if failed:
            return failed
        return self._judged(plan, s, as_quoted(plan, s.book, s.clock, self.spec.mandate, at, self._allowed))

    def _judged(self, plan: Plan, s: SafeState, failed: list[Verdict]) -> list[Verdict]:
        """Return the rules a plan breaks once more is known than the account holds: here nothing is."""
        del plan, s
        return failed

    def build(self, plan: Plan) -> UnsignedTx:
        """Encode the batch with the owners' signatures; ConfigError when there is neither an owner nor a sender."""
        data = self._multisend(plan)
        call = (self.spec.multisend, 0, data, DELEGATECALL)
        args = (*call, 0, 0, 0, ZERO, commitment(plan), self._signatures(plan))
        return UnsignedTx(plan.chain_id, self.spec.address, calldata(EXEC, *args))

    def simulate(self, tx: UnsignedTx, sender: str, block: int | str = "latest") -> Simulation:
        """Execute without sending."""
        head = head_of(self.rpc, block)
        return dry_run(self.rpc, tx, sender, self.spec.address, self.spec.tokens, head, self.spec.block_time_s)

    def verify(self, receipt: Receipt, plan: Plan) -> Settlement:
        """Judge a mined batch from its receipt, the Safe's record of this very hash in it, and the balances of now.

        No state of the past is read: what the batch moved stands in its transfers, and NAV before and after are at one
        price, that of now.
        """
        head = head_of(self.rpc, receipt.block_number)
        now = self.state().book
        landed = receipt.status == 1 and head.hash == receipt.block_hash and self._recorded(receipt, plan)
        deltas = moved(self.spec.address, receipt.logs, [t.address for t in self.spec.tokens])
        found: tuple[Verdict, ...] = ()
        if not landed:
            found = (missed(receipt, deltas, self.why(plan, None, receipt) if receipt.status == 0 else ""),)
        return settlement_of(receipt, before_of(now, deltas), now, landed=landed, verdicts=found)

    def why(self, plan: Plan, revert: str | None, receipt: Receipt | None = None) -> str:
        """Return why ``plan`` reverts in words, with the leg, pair and pool that fail where a replay shows them."""
        told = why_reverted(self.rpc, plan, self.spec.tokens, revert, receipt)
        guard = self._guard() if WHOLE in told else ""
        return f"{told}; the Safe's guard {guard} may have refused it" if guard else told

    def _guard(self) -> str:
        """Return the contract that every transaction of the Safe must pass, empty where there is none or no answer."""
        try:
            word = data(self.rpc.call("eth_getStorageAt", [self.spec.address, GUARD_SLOT, "latest"]))
        except RpcError:
            return ""
        return to_checksum_address(word[-20:]) if any(word[-20:]) and len(word) == WORD_BYTES else ""

    def executed_by(self, plan: Plan) -> str | None:
        """Return the transaction, whoever sent it, in which the Safe's own record says that ``plan`` landed."""
        if self._nonce(head_of(self.rpc, "latest").hash) <= plan.nonce:
            return None
        done, mine = self._done(plan.block_number, "latest"), "0x" + plan.plan_hash.hex()
        return next((sent for _, sent, made in done if made == mine), None)

    def recover(self, plan: Plan, tx_hashes: Sequence[str]) -> AttemptFate:
        """Look up what became of ``plan``: by the Safe's nonce and log first, then by the known transactions."""
        require_own(plan, self.spec.address)
        if self.executed_by(plan) is not None:
            return AttemptFate.LANDED
        head = head_of(self.rpc, "latest")
        if self._nonce(head.hash) > plan.nonce:
            return AttemptFate.VOID
        receipts = (read_receipt(self.rpc, tx_hash) for tx_hash in tx_hashes)
        if any(r is not None and r.status == 0 for r in receipts):
            return AttemptFate.VOID
        return AttemptFate.VOID if head.time > plan.deadline else AttemptFate.REPLACEABLE

    def _done(self, since: int, until: int | str) -> list[tuple[int, str, str]]:
        """Return (block number, transaction hash, plan hash) of what landed in these blocks."""
        return executions(self.rpc, self.spec.address, since, until)

    def _recorded(self, receipt: Receipt, plan: Plan) -> bool:
        """Return whether the logs of ``receipt`` hold the Safe's record of ``plan``."""
        mine = "0x" + plan.plan_hash.hex()
        return any(executed(log, self.spec.address) == mine for log in receipt.logs)

    def _allowed(self, leg: Leg) -> bool:
        """Return whether a leg calls a listed function of a listed contract, which is never a token or the Safe."""
        listed = {(target, selector(signature)) for target, signature in self.spec.calls}
        shares = {v.address for v in self.spec.yields}
        never = {self.spec.address, *(t.address for t in self.spec.tokens)} - shares
        return leg.target not in never and (leg.target, leg.calldata[:4]) in listed

    def _nonce(self, block_hash: str) -> int:
        """Return the Safe's next nonce; ConfigError when it is of a version whose events and hashes are not known."""
        self._require_version(block_hash)
        return cast("int", read(self.rpc, [Call(self.spec.address, "nonce()", "uint256")], block_hash)[0][0])

    def _require_version(self, block_hash: str) -> None:
        if not self._known:
            told = read(self.rpc, [Call(self.spec.address, "VERSION()", "string")], block_hash)[0][0]
            if told not in VERSIONS:
                raise ConfigError(
                    f"the Safe {self.spec.address} is of version {str(told)[:20]!r}; supported are "
                    f"{', '.join(VERSIONS)}: move to one of them before this account is traded"
                )
            self._known = True

    def _multisend(self, plan: Plan) -> bytes:
        return calldata("multiSend(bytes)", batch(plan))

    def _typed(self, plan: Plan) -> dict[str, Any]:
        where = (self.spec.address, self.spec.multisend, self.spec.chain_id)
        return safe_tx(*where, plan.nonce, self._multisend(plan), commitment(plan))

    def _hash(self, plan: Plan) -> bytes:
        from eth_account.messages import encode_typed_data  # late: 0.4 s

        signable = encode_typed_data(full_message=self._typed(plan))
        return bytes(keccak(b"\x19" + signable.version + signable.header + signable.body))

    def _signatures(self, plan: Plan) -> bytes:
        """Return the owners' signatures in rising order of address, or the sender's pre-validated one."""
        if self.spec.owners:
            typed = self._typed(plan)
            ordered = sorted(self.spec.owners.items(), key=lambda item: int(item[0], 16))
            return b"".join(sign(typed) for _, sign in ordered)
        if self.spec.sender == ZERO:
            raise ConfigError("a Safe's batch needs its owners' signatures, or an owner as the sender")
        return bytes(12) + bytes.fromhex(to_checksum_address(self.spec.sender)[2:]) + bytes(32) + b"\x01"


def _priced(s: SafeState) -> list[Verdict]:
    """Return a failed verdict for every token without a good price."""
    tokens = s.book.tokens
    return verdicts([t.symbol for t in tokens], s.book.prices_e8, s.codes, [t.address for t in tokens])

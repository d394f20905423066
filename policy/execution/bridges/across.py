"""AcrossBridge: the Bridge protocol over Across v3, by the events of the pools on both chains.

A deposit is found by the vault's own log and the pool's in the same transaction; its fill, by a relayer or slowly by
the pool itself, by the destination's pool; a deposit that nobody filled by its deadline comes home in whole with a
bundle of refunds on the origin. Nothing here delivers: that is the relayers' business.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lake.errors import RpcError
from lake.evm import Call, head_of, read
from lake.universe import bridge
from policy.execution.base import UnsignedTx, Verdict
from policy.execution.bridges.across_api import AcrossAsk, AcrossFees, AcrossQuotes
from policy.execution.bridges.across_relay import (
    DEPOSITED,
    FILLED,
    REFUNDED,
    SLOW_ASKED,
    Payout,
    Relay,
    deposit_of,
    fill_of,
    refunds_of,
)
from policy.execution.bridges.base import Blocks, BridgeCaps, Sighting, Transfer, TransferQuote, converted
from policy.execution.bridges.departures import BridgeEnd, fee_of, looked_up
from policy.execution.bridges.events import address_of, event_topic, is_of, logs_between, logs_of_tx, padded, word
from policy.execution.bridges.finality import confirmed_block, final_block
from policy.execution.bridges.routes import read_row
from policy.execution.bridges.services import ServiceDown
from policy.execution.bridges.simulated import GRACE_S
from policy.execution.checks.port_rules import ACROSS
from policy.execution.checks.verdicts import refused

TRANSFER = event_topic("Transfer(address,address,uint256)")
GAS_ORIGIN = 200_000
QUOTE_S = 300
TOGETHER_S = 2 * 86_400
"""How far apart the deadlines of deposits may lie that one bundle pays back; bundles are hours apart."""
MOST_TOGETHER = 12
"""Deposits of ours that may share one refund before a person is asked to tell them apart."""


@dataclass(frozen=True, slots=True)
class AcrossEnd(BridgeEnd):
    """One chain of a route: where it is read, and Across' pool there."""

    pool: str


class AcrossBridge:
    """One route between two chains, ``ends`` origin first."""

    def __init__(self, ends: tuple[AcrossEnd, AcrossEnd], quotes: AcrossQuotes) -> None:
        self.ends = ends
        self.quotes = quotes

    def describe(self) -> BridgeCaps:
        """Return Across' rules: a relayer fills before a deadline, else the origin refunds the vault in whole."""
        row = bridge("across")
        return BridgeCaps(
            row.kind, row.refund, row.receive, finality_needed=row.wait_final, has_deadline=True, marked=False
        )

    def quote(self, transfer: Transfer, at: Blocks) -> TransferQuote | Verdict:
        """Return what relayers would bring now, within the service's limits and the route's."""
        near = self.ends[0]
        row = read_row(near.rpc, transfer.origin.vault, transfer.route, at[0])
        if row.kind != ACROSS:
            return refused("bridge_quote", f"route {transfer.route} is no open Across route; no quote is no route")
        amount = min(transfer.amount, row.max_one)
        try:
            said = self.quotes.fees(self._asked(transfer, amount))
            if not said.too_low and said.most < amount:
                amount = said.most
                said = self.quotes.fees(self._asked(transfer, amount))
        except ServiceDown as error:
            return refused("bridge_quote", f"{error}; no quote is no route")
        if said.too_low or amount < said.least:
            return refused("bridge_limit", f"{amount} raw units are too few for relayers", limit=str(said.least))
        if not 0 <= said.fee < amount:
            return refused("bridge_quote", f"a fee of {said.fee} of {amount} raw units is none that can be paid")
        least, dust = converted(amount - said.fee, transfer.origin.decimals, transfer.destination.decimals)
        if least <= 0:
            return refused("bridge_limit", f"nothing of {amount} raw units would arrive")
        return TransferQuote(
            amount=amount,
            least=least,
            fee=said.fee + dust,
            gas_origin=GAS_ORIGIN,
            gas_destination=0,
            limit=min(said.most, row.max_one),
            expires=near.node.head().time + QUOTE_S,
            usual_s=max(bridge("across").usual_s, said.fill_s),
        )

    def preflight(self, transfer: Transfer) -> Sequence[Verdict]:
        """Return what on either chain stops a departure: pause, pool, decimals, tokens, limits, deadline."""
        try:
            return (*self._stops(transfer), *self._unserved(transfer))
        except (RpcError, ServiceDown) as error:
            return (refused("bridge_quote", f"a side of the bridge cannot be read: {error}"),)

    def find(self, transfer: Transfer) -> Sighting:
        """Look the transfer up on both chains."""
        return looked_up(self.ends, transfer, self._beyond)

    def deliver(self, transfer: Transfer, sighting: Sighting) -> UnsignedTx | None:
        """Return None: a fill is a relayer's."""
        del transfer, sighting
        return None

    def _asked(self, transfer: Transfer, amount: int) -> AcrossAsk:
        near, far = transfer.origin, transfer.destination
        return AcrossAsk(near.token, far.token, near.chain_id, far.chain_id, amount)

    def _beyond(self, transfer: Transfer, seen: Sighting) -> Sighting:
        far, blocks = self.ends[1], seen.blocks
        relay = self._deposit(transfer, str(seen.tx_hash))
        seen = replace(seen, message_id=relay.digest(far.chain.chain_id))
        topics = [FILLED, f"0x{relay.origin:064x}", f"0x{relay.deposit_id:064x}"]
        logs = logs_between(far.rpc, far.pool, topics, transfer.since[1], blocks[1])
        for log in logs:
            fill = fill_of(log)
            if fill is not None and fill.relay == relay:
                return self._filled(transfer, seen, fill, int(log["blockNumber"]))
        if head_of(far.rpc, blocks[1], fees=False).time <= relay.fill_deadline + GRACE_S:
            return replace(seen, reason=self._waiting(relay, transfer, blocks))
        why = "its deadline passed on the destination; the refund is due with a bundle"
        return self._refunded(transfer, replace(seen, expired=True, reason=why))

    def _waiting(self, relay: Relay, transfer: Transfer, blocks: Blocks) -> str:
        """Return what an unfilled deposit waits for."""
        far = self.ends[1]
        topics = [SLOW_ASKED, f"0x{relay.origin:064x}", f"0x{relay.deposit_id:064x}"]
        asked = logs_between(far.rpc, far.pool, topics, transfer.since[1], blocks[1])
        if asked:
            return "a slow fill was asked for: the pool itself pays with its next bundle, or it comes home"
        return "a relayer fills it"

    def _deposit(self, transfer: Transfer, tx_hash: str) -> Relay:
        """Return the deposit the departure made; RpcError where the pool logged none to our vault there."""
        near, far = self.ends
        origin, there = transfer.origin, transfer.destination
        wanted = (word(origin.vault), word(there.vault), word(origin.token), word(there.token), far.chain.chain_id)
        for log in logs_of_tx(near.rpc, tx_hash):
            if not is_of(log, near.pool, DEPOSITED):
                continue
            relay, to = deposit_of(log, near.chain.chain_id)
            made = (relay.depositor, relay.recipient, relay.input_token, relay.output_token, to)
            if made == wanted and relay.input_amount == transfer.amount and not relay.message:
                return relay
        raise RpcError(f"{tx_hash[:12]}... logged no deposit of {transfer.amount} raw units for our vault there")

    def _filled(self, transfer: Transfer, seen: Sighting, fill: Payout, block: int) -> Sighting:
        """Return ``seen`` with the credit on the destination, which counts only if our vault was paid."""
        far = self.ends[1]
        if fill.recipient != word(transfer.destination.vault):
            return replace(
                seen, known=False, reason=f"it was paid to {address_of(fill.recipient.hex())}, not to our vault"
            )
        final = seen.final and block <= final_block(far.node, far.chain)
        fee = fee_of(transfer, seen.sent, fill.amount)
        return replace(
            seen, attested=True, arrived=fill.amount, fee=fee, settled_final=final, credit_block=block, reason=""
        )

    def _refunded(self, transfer: Transfer, seen: Sighting) -> Sighting:
        """Return ``seen`` with the refund to our vault on the origin, where one is paid in a confirmed block."""
        near, vault = self.ends[0], transfer.origin.vault
        last = confirmed_block(seen.blocks[0], near.chain)
        paid = logs_between(
            near.rpc, transfer.origin.token, [TRANSFER, padded(near.pool), padded(vault)], int(seen.block or 0), last
        )
        for tx_hash, block in {str(log["transactionHash"]): int(log["blockNumber"]) for log in paid}.items():
            for amount in self._leaf_payments(transfer, tx_hash):
                if amount == seen.sent or self._shared(transfer, amount - seen.sent, block):
                    final = block <= final_block(near.node, near.chain)
                    return replace(seen, returned=seen.sent, settled_final=final, credit_block=block)
        return seen

    def _leaf_payments(self, transfer: Transfer, tx_hash: str) -> list[int]:
        near = self.ends[0]
        out: list[int] = []
        for log in logs_of_tx(near.rpc, tx_hash):
            if is_of(log, near.pool, REFUNDED):
                token, amounts = refunds_of(log, transfer.origin.vault)
                out += amounts if token.lower() == transfer.origin.token.lower() else []
        return out

    def _shared(self, transfer: Transfer, rest: int, block: int) -> bool:
        """Return whether other deposits of ours add up to ``rest`` of a refund: a bundle pays them in one sum."""
        if rest <= 0:
            return False
        near, vault = self.ends[0], transfer.origin.vault
        logs = logs_between(near.rpc, near.pool, [DEPOSITED, None, None, padded(vault)], 0, block)
        made = [deposit_of(log, near.chain.chain_id)[0] for log in logs]
        others = [r.input_amount for r in made if abs(r.fill_deadline - transfer.fill_deadline) <= TOGETHER_S]
        if transfer.amount in others:
            others.remove(transfer.amount)
        if len(others) > MOST_TOGETHER:
            raise RpcError(f"{len(others)} deposits of ours may share the refund in block {block}; call a person")
        sums = (sum(some) for n in range(1, len(others) + 1) for some in itertools.combinations(others, n))
        return rest in sums

    def _stops(self, transfer: Transfer) -> list[Verdict]:
        """Return the verdicts of both chains' pools; of a route through another contract only that."""
        near, far = self.ends
        row = read_row(near.rpc, transfer.origin.vault, transfer.route)
        if row.kind == ACROSS and row.target.lower() != near.pool.lower():
            words = f"route {transfer.route} deposits in {row.target}, the pool there is {near.pool}"
            return [refused("route_mismatch", words)]
        out = []
        sides = ((transfer.origin, near, "pausedDeposits()"), (transfer.destination, far, "pausedFills()"))
        for side, end, pause in sides:
            views = [Call(end.pool, pause, "bool"), Call(side.token, "decimals()", "uint8")]
            views += [Call(end.pool, "chainId()", "uint256")]
            (paused,), (decimals,), (served,) = read(end.rpc, views)
            if paused:
                out.append(refused("bridge_paused", f"Across is paused on chain {side.chain_id}"))
            if decimals != side.decimals:
                words = f"{side.token} has {decimals} decimals on chain {side.chain_id}, {side.decimals} were given"
                out.append(refused("decimals", words))
            if served != end.chain.chain_id:
                out.append(refused("route_mismatch", f"{end.pool} is the pool of chain {served}, not {side.chain_id}"))
        buffer = int(str(read(near.rpc, [Call(near.pool, "fillDeadlineBuffer()", "uint32")])[0][0]))
        left = transfer.fill_deadline - near.node.head().time
        if left > buffer:
            out.append(refused("bridge_limit", f"a deposit may wait {buffer} s for its fill, {left} s were planned"))
        return out

    def _unserved(self, transfer: Transfer) -> list[Verdict]:
        """Return why relayers would not carry it, by the service."""
        ask = self._asked(transfer, transfer.amount)
        if not self.quotes.serves(ask):
            words = f"relayers bring no {ask.output_token} to chain {ask.destination} for {ask.input_token}"
            return [refused("representation_unknown", words)]
        said = self.quotes.fees(ask)
        return [*self._pools(said), *_bounds(said, transfer.amount)]

    def _pools(self, said: AcrossFees) -> list[Verdict]:
        out = []
        for end, pool in zip(self.ends, said.pools, strict=True):
            if pool is not None and str(pool).lower() != end.pool.lower():
                words = f"the pool on chain {end.chain.chain_id} is {pool} by Across' service, configured is {end.pool}"
                out.append(refused("route_mismatch", words))
        return out


def _bounds(said: AcrossFees, amount: int) -> list[Verdict]:
    """Return the refusal of an amount that relayers take not, or not at once."""
    if said.too_low or amount < said.least:
        return [refused("bridge_limit", f"{amount} raw units are too few for relayers", limit=str(said.least))]
    if amount > said.most:
        return [
            refused("bridge_limit", f"{amount} raw units, {said.most} may be deposited at once", limit=str(said.most))
        ]
    return []

"""Tables of a portfolio on several chains: what its transfers went through, and where it lay at each look."""

from __future__ import annotations

import dataframely as dy

from lake.table_columns import finite, moment, name_key


class Transfers(dy.Schema):
    """One row an event of a transfer's journal, in its order; ``ts`` is when the lake learnt of it.

    Amounts are raw units as texts: of the origin's cash, ``arrived_raw`` of the destination's. ``usd``, ``fee_usd`` and
    ``gas_usd`` (of all its transactions, by their receipts) are known once it is settled.
    """

    saga_id = name_key()
    event_no = dy.Int64(primary_key=True, min=0)
    ts = moment()
    event = dy.String(nullable=False)  # planned | signed | handed | failed | mined | absent | is
    state = dy.String(nullable=False)  # after the event
    bridge = dy.String(nullable=False)
    origin = dy.Int64(nullable=False, min=1)  # chain ids
    destination = dy.Int64(nullable=False, min=1)
    asset = dy.String(nullable=False)
    amount_raw = dy.String(nullable=False)
    arrived_raw = dy.String(nullable=False)
    returned_raw = dy.String(nullable=False)
    fee_raw = dy.String(nullable=False)
    leg = dy.String(nullable=True)  # depart | deliver | settle
    tx_hash = dy.String(nullable=True)
    usd = finite(at_least=0)
    fee_usd = finite(at_least=0)
    gas_usd = finite(at_least=0)
    note = dy.String(nullable=False)  # why it was planned, what was seen
    person = dy.String(nullable=True)
    decision_id = dy.String(nullable=True)
    available_at = moment()


class ChainPlaces(dy.Schema):
    """Where a portfolio lay at a decision or a look, one row a chain and asset, USD.

    Cash rows carry the level that the chain's cash is kept at, with its reason, and what is on its way there.
    """

    decision_id = name_key()
    chain_id = dy.Int64(primary_key=True, min=1)
    asset = name_key()
    ts = moment()
    vault = dy.String(nullable=False)  # its deployment
    block = dy.Int64(nullable=False, min=0)
    usd = finite(at_least=0, required=True)
    change_usd = finite(required=True)  # what the decision placed here: bought above 0, sold below
    cash = dy.Bool(nullable=False)
    floor_usd = finite(at_least=0)
    goal_usd = finite(at_least=0)
    floor_why = dy.String(nullable=True)
    coming_usd = finite(at_least=0)
    plan_id = dy.String(nullable=True)  # the vault's own decision, whose execution is a row of ``executions``
    available_at = moment()

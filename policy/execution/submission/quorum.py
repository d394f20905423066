"""Two nodes of different operators must tell the same before anything is signed: one that lies cannot price a trade.

A node decides prices, pools, holdings and nonces together, so its lie is consistent with itself and no check against
its own answers finds it. What a second operator's node says of the same block does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from lake.errors import ForedriftError
from lake.units import Bps
from policy.execution.base import Snapshot, Verdict
from policy.execution.checks.verdicts import passed, refused
from policy.execution.routing.amm import Pool

ALONE_BPS = Bps(100)
"""Most the oracle may differ from the lake's price where one node alone tells it; with two the mandate decides."""
NEEDED = 2


@dataclass(frozen=True, slots=True)
class Testimony:
    """What one node tells: the vault and the pools at the decision's block, that block's hash, the sender's nonce."""

    block_hash: str | None
    snapshot: Snapshot
    pools: tuple[Pool, ...]
    nonce: int


@dataclass(frozen=True, slots=True)
class Witness:
    """One operator's node. ``name`` is its masked address; ``testify`` reads at the given snapshot's block hash."""

    name: str
    testify: Callable[[Snapshot], Testimony]


def alone(witnesses: Sequence[Witness]) -> list[Verdict]:
    """Return the warning that one node alone is configured, as a verdict that lets the plan go on."""
    if len(witnesses) != 1:
        return []
    reason = (
        f"ONLY ONE NODE: {witnesses[0].name} alone tells prices, pools and nonces, nothing checks it; the oracle may "
        f"differ from the lake by {ALONE_BPS} bp at most. Add a second operator's URL to [chain] rpc_urls"
    )
    return [passed("one_node", reason, allowed_bps=int(ALONE_BPS))]


def quorum(witnesses: Sequence[Witness], snapshot: Snapshot, pools: Sequence[Pool], nonce: int) -> list[Verdict]:
    """Return whether at least two nodes tell what the decision rests on and none tells otherwise; one is asked nothing.

    A node that does not answer, or does not have the block, confirms nothing.
    """
    if len(witnesses) < NEEDED:
        return []
    agreed, silent = [], []
    for witness in witnesses:
        try:
            gaps = differences(witness.testify(snapshot), snapshot, pools, nonce)
        except ForedriftError as error:  # also a vault that looks like another one there
            silent.append(f"{witness.name}: {str(error)[:160]}")
            continue
        if gaps:
            others = ", ".join(w.name for w in witnesses if w is not witness)
            reason = f"{witness.name} and {others} disagree: {'; '.join(gaps)} (as decided on). Nothing is signed"
            return [refused("nodes_disagree", reason, block=snapshot.block_number)]
        agreed.append(witness.name)
    if len(agreed) < NEEDED:
        reason = (
            f"{len(agreed)} of {len(witnesses)} nodes confirm block {snapshot.block_number}, {NEEDED} are required; "
            f"{'; '.join(silent)}. Nothing is signed"
        )
        return [refused("quorum", reason, confirmed=len(agreed), required=NEEDED)]
    return [passed("quorum", f"{' and '.join(agreed)} agree on block {snapshot.block_number}", confirmed=len(agreed))]


def differences(told: Testimony, snapshot: Snapshot, pools: Sequence[Pool], nonce: int) -> list[str]:
    """Return in words what ``told`` contradicts: block hash, prices, anything else of the vault, pools, nonce."""
    found = []
    if told.block_hash != snapshot.block_hash:
        found.append(f"block {snapshot.block_number} is {told.block_hash} there, not {snapshot.block_hash}")
    names = {t.address: t.symbol for t in snapshot.tokens}
    theirs = {q.token: q for q in told.snapshot.quotes}
    for mine in snapshot.quotes:
        other = theirs.get(mine.token)
        if other != mine:
            price = "missing" if other is None else other.price_e8 / 1e8
            found.append(
                f"the price of {names.get(mine.token, mine.token)} is {price} there, not {mine.price_e8 / 1e8}"
            )
    rest = [f.name for f in fields(Snapshot) if f.name not in {"quotes", "block_hash", "verdicts"}]
    found += [
        f"{name} is {getattr(told.snapshot, name)} there, not {getattr(snapshot, name)}"
        for name in rest
        if getattr(told.snapshot, name) != getattr(snapshot, name)
    ]
    there = {p.address: p for p in told.pools}
    found += [f"pool {p.address} is in another state there" for p in pools if there.get(p.address) != p]
    if told.nonce != nonce:
        found.append(f"the sender's nonce is {told.nonce} there, not {nonce}")
    return [text[:200] for text in found]

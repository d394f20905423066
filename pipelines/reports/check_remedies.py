"""What to do about a hedge that is refused, or about what it notes: a sentence by the name of its check."""

from __future__ import annotations

from collections.abc import Iterable

from policy.execution.base import Verdict

HEDGE_REMEDIES: dict[str, str] = {
    "account_empty": "Pay cash into the hedge account; nothing is hedged until then.",
    "account_paused": "Find out why the guardian paused it; the owner resumes it through the timelock.",
    "book_unknown": "Name the portfolio of the book in [hedge] portfolio.",
    "book_unpriced": "Run `foredrift ingest` or import what it names: a book is hedged whole or not at all.",
    "delta_disagrees": "Post the delta anew, or look which line the recorded book does not have.",
    "delta_stale": "Post the delta of the book anew; until then the hedge may only shrink.",
    "delta_unpriced": "Wait for the oracle's price to be good again; nothing is to be done to the book.",
    "delta_source": "Read the verdict of the delta source at this block; it is none that is known here.",
    "expiry_wrong": "Set the line anew with the expiry that is held, through the timelock of the delta source.",
    "funding_flipped": "Look whether the hedge is still worth its carry; the rule goes on.",
    "funding_paid": "Compare the carry with the risk it takes away; the rule goes on.",
    "hedge_route": "Add a pool with depth to [[sources.pools]], or let the hedge be smaller.",
    "iv_stale": "Post the volatilities of the lines anew; until then the hedge may only shrink.",
    "line_expired": "Settle the option and take its line out, through the timelock of the delta source.",
    "line_unheld": "Take the line out, or record the positions of the portfolio anew.",
    "lp_out_of_range": "Centre the pool position anew or close it; its delta is hedged as it stands.",
    "oracle": "Look at the price feeds of cash and underlying; nothing is traded without both.",
    "oracle_not_positive": "The feed answers nonsense: tell its operator; nothing is traded without a price.",
    "oracle_stale": "The feed has not moved for longer than its heartbeat: wait, or ask its operator.",
    "perp_halted": "Wait for the venue to open; close the book's risk elsewhere where that is too long.",
    "perp_liquidatable": "Pay margin in at once: anyone may close the position now.",
    "perp_liquidated": "Find out why margin ran out, pay it in, then move the journal aside to go on.",
    "perp_margin": "Pay cash into the account or raise venue_bps: the position needs more margin.",
    "perp_margin_thin": "Nothing: margin is topped up from the account's cash while there is any.",
    "position_burnt": "Take the line out through the timelock, and the position out of v3_ids.",
    "rate_fell": "Find out whether the staking token was slashed; set its line anew at the new rate.",
}


NOTES = frozenset(
    {"funding_flipped", "funding_paid", "lp_out_of_range", "perp_liquidatable", "perp_margin_thin", "rate_fell"}
)
"""Checks that are worth a word although they stop nothing."""


def remedies(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """Return what to do by check, for what was refused or is worth a word."""
    told = [v.check for v in verdicts if not v.ok or v.check in NOTES]
    return {check: HEDGE_REMEDIES[check] for check in told if check in HEDGE_REMEDIES}

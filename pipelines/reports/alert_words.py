"""What to do about each alert of the portfolio page: the runbook's own sentence."""

from __future__ import annotations

ALERTS: dict[str, str] = {
    "stopped": "read the reason in `foredrift status`; `foredrift resume` when it is settled",
    "refused": "read the verdict and its figures; nothing was sent",
    "untradable": "read the reason in the decision (`foredrift explain`); nothing has to be done if it passes",
    "denied": "look at the feed and the pools",
    "abstained": (
        "`foredrift models`; `foredrift train`; if inputs look wrong, `foredrift status` and `foredrift ingest`"
    ),
    "stale": "`foredrift ingest`, or import newer files",
}
LEADS: dict[str, str] = {
    "refused": "the last decision was refused: ",
    "untradable": "a token is left alone: ",
    "denied": "the market denies the vault's NAV: ",
    "stale": "the prices are old: ",
}
"""What an alert's sentence begins with, where its reason does not say by itself what is the matter."""

"""Verdicts made short, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policy.execution.base import Verdict

NAV_DENIED = "nav_denied"
"""The check that says deposits and oracle-priced exits must not go on at this NAV, and what was done about it."""
UNTRADABLE = "token_untradable"
"""The check that names a token which is left alone while the rest is traded."""


def passed(check: str, reason: str = "", **figures: str | int | float) -> Verdict:
    """Return a verdict that lets the plan go on."""
    return Verdict(check, ok=True, reason=reason, figures=figures)


def refused(check: str, reason: str, **figures: str | int | float) -> Verdict:
    """Return a verdict that stops the plan; ``reason`` says what was measured and what is required."""
    return Verdict(check, ok=False, reason=reason, figures=figures)


def refusals(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return the verdicts that stop the plan."""
    return tuple(v for v in verdicts if not v.ok)


def explain(verdicts: Sequence[Verdict]) -> str:
    """Return the refusals as one line."""
    return "; ".join(f"{v.check}: {v.reason}" for v in refusals(verdicts))

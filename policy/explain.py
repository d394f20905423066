"""A decision in words and numbers: what was weighed against what, and what tipped it."""

from __future__ import annotations

from policy.base import Decision, State

_VERBS = {
    "trade": "Trade now",
    "forced": "Trade now: the mandate leaves no choice",
    "split": "Trade a part now and the rest in the next hours",
    "wait": "Wait",
}


def explain(state: State, decision: Decision) -> str:
    """Return a few lines of plain text: verdict, the three USD figures, the reason and the weights that change."""
    head = (
        f"{state.ts:%Y-%m-%d %H:%M} UTC  {_VERBS[decision.action]} ({state.scenario} mandate, {state.nav_usd:,.0f} USD)"
    )
    lines = [head, ""]
    if decision.action == "wait":
        lines += [
            f"  a trade now would cost    {decision.cost_usd:>12,.2f} USD",
            f"  and save future cost of   {decision.benefit_usd:>12,.2f} USD",
            f"  waiting is worth          {decision.value_of_waiting_usd:>12,.2f} USD",
        ]
    else:
        lines += [
            f"  the trade costs           {decision.cost_usd:>12,.2f} USD",
            f"  it saves future cost of   {decision.benefit_usd:>12,.2f} USD",
            f"  net                       {decision.benefit_usd - decision.cost_usd:>12,.2f} USD",
        ]
    lines += ["", f"  {decision.why}"]
    if decision.fallback:
        lines.append(f"  decided by the fallback {decision.fallback}")
    moved = [
        f"  {asset:<8} {before:>8.2%} -> {after:>8.2%}   target {target:.2%}"
        for asset, before, after, target in zip(
            state.assets, state.weights, decision.weights, state.target, strict=True
        )
        if before != after
    ]
    return "\n".join([*lines, "", *moved]).rstrip() if moved else "\n".join(lines)

"""A decision as people read it: the engine's report with tables in words, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from lake.units import BPS
from pipelines.reports.check_words import said
from policy.execution.base import Capabilities, Snapshot, Token
from policy.execution.context import StepReport

Shown = Mapping[str, Any]


def as_shown(report: StepReport, note: str, seen: Snapshot) -> dict[str, Any]:
    """Return the report as printed and written by ``--json``: the engine's figures plus tables for people.

    ``weights``: asset, before, wanted, mandated target, and after the settlement. ``legs``: amounts in the tokens'
    smallest units, as they are signed; ``moves``: the same in tokens.
    """
    data = report.json()
    plan = report.plan
    names = {t.address: t.symbol for t in seen.tokens}
    columns = [report.weights_before, report.weights_wanted, [b / BPS for b in seen.targets_bps], report.weights_after]
    by_asset = [dict(zip(report.assets, column, strict=False)) for column in columns]
    data["weights"] = [[a, *[column.get(a) for column in by_asset]] for a in report.assets]
    data["legs"] = [
        [names.get(leg.token_in, leg.token_in[:10]), names.get(leg.token_out, leg.token_out[:10]), str(leg.amount_in),
         str(leg.min_out), " > ".join(h.venue for h in leg.path)]
        for leg in (plan.legs if plan else report.legs)
    ]  # fmt: skip
    tokens = {t.address: t for t in seen.tokens}
    data["moves"] = [
        [
            *names_of,
            _amount(tokens.get(leg.token_in), leg.amount_in),
            _amount(tokens.get(leg.token_out), leg.min_out),
            way,
        ]
        for leg, (*names_of, _, _, way) in zip(plan.legs if plan else report.legs, data["legs"], strict=True)
    ]
    data["note"] = note
    alone = ", ".join(u["symbol"] for u in data["untradable"])
    action = [] if report.why.startswith(report.action) else [report.action]
    words = [*action, report.why, f"left alone: {alone}" if alone else "", _denied(data), note]
    data["summary"] = "; ".join(w for w in words if w)
    return data


def _denied(data: Shown) -> str:
    return f"the market denies NAV: {data['nav_denied']}" if data["nav_denied"] else ""


def _amount(token: Token | None, raw: int) -> str:
    """Return ``raw`` units of ``token`` as people write them: 32,906.41 USDC; six significant digits at least."""
    if token is None:
        return str(raw)
    value = Decimal(raw).scaleb(-token.decimals)
    digits = max(2, 5 - value.adjusted()) if value else 2
    return f"{value:,.{digits}f} {token.symbol}"


def as_markdown(result: Shown) -> str:
    """Return a decision as Markdown, for the scheduler's pages."""
    lines = [f"**{result['outcome']}** {result['summary']}", "", "| asset | before | wanted |", "|---|---|---|"]
    rows = [row[:3] for row in result["weights"]]
    lines += [f"| {a} | {100 * b:.2f} % | {100 * w:.2f} % |" for a, b, w in rows if b is not None and w is not None]
    lines += ["", *[f"- {'ok' if v['ok'] else 'refused'}: {said(v)}" for v in result["verdicts"]]]
    return "\n".join(lines)


def rules_off_chain(stated: Capabilities) -> list[str]:
    """Return which rules of the mandate the vault does not enforce on chain: this side does, before signing."""
    rules = ("onchain_price_bound", "loss_budget", "progress_rule", "plan_nonce", "deadline")
    return [rule.removeprefix("onchain_").replace("_", " ") for rule in rules if not getattr(stated, rule)]

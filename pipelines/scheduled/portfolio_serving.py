"""The portfolio page and the chat of a project, for ``foredrift serve`` and ``foredrift portfolio --serve``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipelines.deployments import Deployment
from pipelines.reports.portfolio_words import budget_words, drift_words, keeper_words, usd
from pipelines.scheduled.chat import Chat, take_token
from pipelines.scheduled.page import page_port
from pipelines.sections import ChatSection, PageSection
from pipelines.stages.halting import Project, stop
from pipelines.stages.portfolio import portfolio
from pipelines.stages.rebalance import explained
from pipelines.wiring import now


def chat_of(vaults: Sequence[Deployment], given: ChatSection, stale_after: str, stopping: Project) -> Chat | None:
    """Return the chat that [chat] asks for, None where nobody is allowed or there is no token."""
    token = take_token()
    if not given.allowed or token is None:
        return None

    def looked(tell: Callable[[Mapping[str, Any]], str]) -> Callable[[str], str]:
        return lambda _: "\n\n".join(tell(portfolio(one, now(), stale_after, vaults)) for one in vaults)

    commands = {
        "/status": looked(told_status), "/next": looked(lambda d: f"{d['name']}: {d['next']['sentence']}"),
        "/portfolio": looked(told_portfolio), "/stop": lambda why: str(stop(stopping, why, "chat")["text"]),
    }  # fmt: skip
    return Chat(given.url, token, given.allowed, commands)


def told_status(data: Mapping[str, Any]) -> str:
    """Return alerts, keeper and loss budget as a message."""
    alerts = [str(a["says"]) for a in data["alerts"]] or ["No alerts."]
    budget = f"Loss budget: {budget_words(data['loss_budget'])}."
    return "\n".join([f"{data['name']}: {keeper_words(data)}", *alerts, data["outside"]["words"], budget])


def told_portfolio(data: Mapping[str, Any]) -> str:
    """Return NAV, weights, cost and what was saved as a message."""
    rows = [
        f"{a['asset']} {a['weight']:.1%} of {a['target']:.1%}{' outside its band' if a['outside'] else ''}"
        for a in data["assets"]
    ]
    cost = f"cost this month {usd(data['cost_month']['total_usd'])}; saved so far: {data['saved']['words']}"
    return "\n".join([f"{data['name']}: NAV {usd(data['nav']['usd'])}", *rows, cost, drift_words(data["drift"])])


@contextmanager
def serving(
    vaults: Sequence[Deployment], given: PageSection, stale_after: str, project: Sequence[Deployment] = ()
) -> Iterator[str]:
    """Serve the page of ``vaults``, some of ``project``, as [page] says while the block lasts; yield its address."""

    def look(one: Deployment) -> Mapping[str, Any]:
        return portfolio(one, now(), stale_after, project or vaults)

    token = None if given.token_file is None else vaults[0].path(given.token_file)
    with page_port(
        {v.name: partial(look, v) for v in vaults}, partial(explained, vaults), (given.bind, given.port), token
    ) as address:
        yield address

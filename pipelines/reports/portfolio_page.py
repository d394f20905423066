"""The portfolio as a web page: HTML made here, one small script that takes in what changed, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from lake.units import utc
from pipelines.reports.portfolio_charts import charts
from pipelines.reports.portfolio_terminal import moment
from pipelines.reports.portfolio_words import (
    budget_words,
    coverage_rows,
    hedge_words,
    keeper_words,
    range_words,
    stretch,
    swap_name,
    transfer_words,
    usd,
)

HERE = Path(__file__).parent
_CODE = re.compile(r"`([^`]+)`")
ASSETS = {"portfolio.css": "text/css", "portfolio.js": "text/javascript"}


def places(row: Mapping[str, Any]) -> dict[str, float]:
    """Return where low, high, target and weight stand on an asset's bar, per cent of its length."""
    return _along(row, stretch(row), ("low", "high", "target", "weight"))


def spans(row: Mapping[str, Any]) -> dict[str, float]:
    """Return where the band, the target, the weight and the forecast's quantiles stand on a bar, per cent of it."""
    names = ("low", "high", "target", "weight", "q05", "q25", "q75", "q95")
    return _along(row, stretch(row, "q05", "q95"), names)


def _along(row: Mapping[str, Any], ends: tuple[float, float], names: Sequence[str]) -> dict[str, float]:
    bottom, top = ends
    return {k: round(100 * min(max((row[k] - bottom) / (top - bottom), 0.0), 1.0), 2) for k in names}


def marked(text: str) -> Markup:
    """Return ``text``, escaped, with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def environment() -> jinja2.Environment:
    """Return the environment of the page's templates; every value is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"usd": usd, "marked": marked}
    made.globals |= {
        "places": places, "spans": spans, "budget_words": budget_words, "keeper_words": keeper_words,
        "range_words": range_words, "swap_name": swap_name, "transfer_words": transfer_words,
        "hedge_words": hedge_words, "coverage_rows": coverage_rows,
    }  # fmt: skip
    return made


def page(data: Mapping[str, Any], names: Sequence[str], version: str) -> str:
    """Return the whole page of ``data``; ``names``: the project's vaults, ``version`` of what is shown."""
    now = utc(data["at"])
    template = environment().get_template("portfolio.html.j2")
    return template.render(
        d=data, names=names, version=version, charts=charts(data), when=lambda text: moment(text, now),
        signed=lambda value: usd(value, signed=True), now=now,
    )  # fmt: skip


def decision_page(explained: Mapping[str, Any]) -> str:
    """Return a page with what ``foredrift explain`` says of a decision."""
    return environment().get_template("portfolio_decision.html.j2").render(e=explained)


def trouble_page(words: str) -> str:
    """Return a page that says why there is nothing to show."""
    return environment().get_template("portfolio_trouble.html.j2").render(words=words)

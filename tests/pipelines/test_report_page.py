"""The report at first sight: a verdict, one chart, the rest folded; small, alone, and no wider than a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reports.page import render
from pipelines.reports.verdict import ratio_chart, short, verdict
from tests.pipelines import fake_comparison as fake
from tests.pipelines.browser import CHROMIUM, chromium

LARGEST = 1_500_000  # bytes
PAIR = {"scenario": "soft", "nav_usd": 1e5, "a": "predictive", "b": "gas_band", "portfolios": 4, "weeks": 22}


def pair(ratio: float, half: float, nav: float = 1e5, b: str = "gas_band") -> dict:
    return {**PAIR, "nav_usd": nav, "b": b, "ratio": ratio, "ci_low": ratio - half, "ci_high": ratio + half}


def test_a_gain_a_loss_and_nothing_shown_are_told_apart():
    rows = [pair(0.94, 0.03), pair(1.2, 0.05, 1e6), pair(0.98, 0.05, 1e7)]
    found = verdict({"pairs": rows})
    assert found.number == "1 of 3"
    assert found.lines == (
        (
            "On these 22 calendar weeks prediction cost less than gas_band in 1 of 3 cells: "
            "soft $100k 0.94 (0.91 to 0.97)."
        ),
        "It cost more in 1: soft $1M 1.20 (1.15 to 1.25).",
        "In 1 nothing was shown: ratios 0.98 to 0.98, each interval holds 1.",
    )
    rows += [{**pair(0.8, 0.01, b="past_best"), "b_is": "gas_tilt"}]
    assert "the best reactive rule (gas_tilt) in 1 of 1 cells" in verdict({"pairs": rows}).lines[0]
    assert verdict({"pairs": []}).number == "-"
    for hours, span in ((672, "these 4 weeks"), (240, "these 10 days")):
        assert verdict({"pairs": rows, "data": {"hours": hours}}).lines[0].startswith(f"On {span} ")


ROWS = st.lists(
    st.builds(pair, st.floats(0.1, 3), st.floats(0, 0.5), st.sampled_from([1e5, 1e6, 1e7]),
              st.sampled_from(["gas_band", "threshold", "best_threshold"])),
    max_size=8, unique_by=lambda r: (r["nav_usd"], r["b"]),
)  # fmt: skip


@given(ROWS)
def test_the_chart_has_a_row_a_cell_and_every_mark_on_its_axis(rows):
    chart = ratio_chart({"pairs": rows})
    assert len({row.cell for row in chart.rows}) == len(chart.rows)
    assert chart.low < 1 < chart.high
    assert 0 < chart.one < 100
    for mark in (m for row in chart.rows for m in row.marks):
        assert 0 <= mark.left <= mark.left + mark.width <= 100.01
        assert mark.left - 0.01 <= mark.at <= mark.left + mark.width + 0.01
    for row in rows:
        cheaper = row["ratio"] < 1 and row["b"] == "gas_band"
        places = [m.at for r in chart.rows if r.cell == f"soft {short(row['nav_usd'])}" for m in r.marks
                  if m.rival == "gas_band"]  # fmt: skip
        assert not cheaper or places[0] <= chart.one


@given(ROWS)
def test_the_number_counts_what_the_intervals_say(rows):
    mine = [r for r in rows if r["b"] == "gas_band"]
    if mine:
        less = sum(r["ci_high"] < 1 for r in mine)
        assert verdict({"pairs": rows}).number == f"{less} of {len(mine)}"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    data = fake.data()
    data["data"]["notes"] = ["ETH: no bar for a long while, " + "x" * 200]
    row = {"scenario": "hard_tight", "nav_usd": 1e6, "over_buy_and_hold_bp": 4.5, "over_growth_average_bp": 9.2}
    data["premium"] = [
        {**row, "policy": p, "excess_growth_bp": 10.0, "cost_bp": 17.0, "portfolios": 3} for p in fake.POLICIES
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(data, "made-up", {"settings": "ab" * 90}, fake.timeline()), encoding="utf-8")
    return path


def test_it_is_small_stands_alone_and_folds_all_but_verdict_and_chart(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    assert text.count("<details") == text.count("</details>") == text.count("<summary>")
    first, _, folded = text.partition("<details")
    assert "<table" not in first
    assert folded.count("<table") > 5
    assert "<details open" not in text
    anchors = set(re.findall(r"<a href=\"#([^\"]+)\"", first))
    assert anchors == set(re.findall(r"<details id=\"([^\"]+)\"", text))


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: install chromium to test what people see")
def test_no_sideways_scroll_on_a_phone_and_the_first_screen_holds_verdict_and_chart(page):
    with chromium() as browser:
        for width, height, scheme in ((390, 844, "dark"), (1440, 900, "light")):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            shown = context.new_page()
            shown.goto(page.as_uri())
            for selector in (".verdict .number", ".verdict .lines", ".ratios .row:last-child"):
                box = shown.locator(selector).last.bounding_box()
                assert box["y"] + box["height"] <= height, (width, selector)
            for opened in (False, True):
                shown.evaluate(f"document.querySelectorAll('details').forEach(d => d.open = {str(opened).lower()})")
                wide = shown.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (width, opened)
            shown.locator("nav.contents a").nth(2).click()
            assert shown.evaluate("document.querySelector(location.hash).open")
            context.close()

"""People's eyes on the portfolio page: its first screen without scrolling, both themes, no fault of accessibility."""

from __future__ import annotations

import time

import httpx
import pytest

from pipelines.scheduled.page import page_port
from pipelines.servers.subprocesses import free_port
from tests.pipelines.browser import CHROMIUM, chromium
from tests.pipelines.page_data import WHOLE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: install chromium to test what people see"),
]
FIRST = (".nav", ".bands", ".next", ".keeper", ".cost", ".saved")
SECOND = ("#h-hist", "#h-ahead", "#h-chains", "#h-greeks", "#h-models")
BARS = "() => [...document.querySelectorAll('.ahead svg rect')].every(r => r.getBoundingClientRect().width > 0)"
BOTTOM = "s => document.querySelector(s).getBoundingClientRect().bottom"


@pytest.fixture(scope="module")
def address():
    with page_port({"main": lambda: WHOLE}, lambda _: {}, ("127.0.0.1", free_port())) as found:
        while "NAV" not in httpx.get(found, timeout=30).text:
            time.sleep(0.05)
        yield found


def test_the_first_screen_holds_in_both_themes_and_sizes_without_a_fault(address):
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    with chromium() as browser:
        for theme in ("light", "dark"):
            for width, height in ((390, 844), (1440, 900)):
                look = {"viewport": {"width": width, "height": height}, "color_scheme": theme}
                context = browser.new_context(**look, bypass_csp=True)
                page, asked, said = context.new_page(), [], []
                page.on("request", lambda r, asked=asked: asked.append(r.url))
                page.on("console", lambda m, said=said: said.append(m.text))
                page.goto(address)
                where = (theme, width)
                assert max(page.evaluate(BOTTOM, s) for s in FIRST) <= height, where
                assert page.evaluate("document.documentElement.scrollWidth") <= width, where
                tops = [page.locator(s).bounding_box()["y"] for s in SECOND]
                assert tops == sorted(tops), where
                assert tops[0] > max(page.evaluate(BOTTOM, s) for s in FIRST), where
                assert page.evaluate(BARS), where
                assert all(url.startswith(address) for url in asked), asked
                assert said == [], where
                serious = [v for v in axe.run(page).response["violations"] if v["impact"] in {"serious", "critical"}]
                assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in serious] == [], where
                context.close()

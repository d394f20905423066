"""People's eyes: a headless Chromium opens the tracking server and finds what a comparison promises to show."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from pipelines.experiments import saved_view
from pipelines.experiments.comparison_runs import cells_of, log_comparison
from pipelines.experiments.ui import mlflow_server, newest_view
from pipelines.reports.verdict import verdict
from pipelines.servers.subprocesses import free_port
from pipelines.settings import load
from policy.names import traits
from tests.pipelines import fake_comparison as fake
from tests.pipelines.browser import CHROMIUM, chromium, new_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}: install chromium to test what people see"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A tracking server over one logged comparison: settings, where it was logged, and the server's address."""
    file = tmp_path_factory.mktemp("site") / "foredrift.toml"
    file.write_text("")
    settings = load(file)
    where = log_comparison(settings, made_up(), "made-up", fake.frames(), fake.timeline())
    port = free_port()
    with mlflow_server(settings, port):
        yield settings, where, f"http://127.0.0.1:{port}"


def made_up() -> dict:
    """The fake comparison, with words in the place of assets so that no picture of it can be taken for a result."""
    data = fake.data()
    data["data"]["assets"] = ["made-up figures"]
    return data


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def page(browser):
    made = new_page(browser)
    strange: list[str] = []
    made.on(
        "request",
        lambda r: None if re.match(r"(http://127\.0\.0\.1|blob:|data:|file:)", r.url) else strange.append(r.url),
    )
    yield made
    made.context.close()
    assert strange == [], "the page asked a host outside this machine"


TITLES = """names => [...document.querySelectorAll('*')]
  .filter(e => e.childElementCount === 0 && names.includes(e.textContent.trim())).map(e => e.textContent.trim())"""


FILLS = "[...document.querySelectorAll('.bars .point path')].map(e => getComputedStyle(e).fill)"


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def test_the_saved_view_opens_at_the_total_cost_of_one_cell(site, page):
    settings, where, base = site
    url = newest_view(settings, base)
    assert url == saved_view.link(base, where.experiment_id, where.view)
    page.goto(url)
    page.get_by_text("Group by: policy").wait_for()
    page.get_by_text("Group: predictive").first.wait_for()
    page.get_by_text("Group: gas_band").first.wait_for()
    total = saved_view.NAMED["total_bp"]
    for name in list(saved_view.NAMED.values())[:2]:
        page.get_by_text(name, exact=True).first.wait_for()
    named = [*saved_view.NAMED.values(), "summary/total_bp"]
    shown = list(dict.fromkeys(page.evaluate(TITLES, named)))
    assert shown[:2] == named[:2], "the charts come in the order of the saved view, total first"
    assert "summary/total_bp" not in shown, "the machine's names are folded"
    box = page.get_by_text(total, exact=True).first.bounding_box()
    assert box["y"] < 500, "seen without scrolling"
    page.locator(".bars .point path").first.wait_for()
    painted = {tuple(map(int, re.findall(r"\d+", c)[:3])) for c in page.evaluate(FILLS)}
    assert painted == {rgb(traits(p).colour) for p in fake.POLICIES if p != "calendar_daily"}, "each policy its own"


def test_the_note_leads_to_the_charts_of_a_cell(site, page):
    settings, where, base = site
    page.goto(f"{base}/#/experiments/{where.experiment_id}/runs/{where.summary_run}")
    cell, name = list(cells_of(made_up()).items())[-1]
    key = saved_view.keys("made-up", list(cells_of(made_up())))[cell]
    link = page.get_by_role("link", name=name, exact=True).first
    link.wait_for()
    assert page.evaluate("a => a.href", link.element_handle()) == saved_view.link(base, where.experiment_id, key)
    page.goto(page.evaluate("a => a.href", link.element_handle()))
    page.get_by_text(name).first.wait_for()
    page.get_by_text(saved_view.NAMED["total_bp"]).first.wait_for()


def test_without_the_chart_mode_the_same_view_is_a_table(site, page):
    _, where, base = site
    page.goto(saved_view.link(base, where.experiment_id, where.view, chart=False))
    page.get_by_text("Group: predictive").first.wait_for()
    page.get_by_text("(average)").first.wait_for()


def test_predictive_and_gas_band_compare_side_by_side(site, page):
    _, where, base = site
    chosen = quote("tags.scenario = 'soft' AND tags.nav_usd = '1000000'")
    page.goto(f"{base}/#/experiments/{where.experiment_id}/runs?searchFilter={chosen}")
    for policy in ("predictive", "gas_band"):
        row = page.get_by_role("row").filter(has_text=re.compile(rf"{policy} soft"))
        row.get_by_role("checkbox").first.check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Comparing 2 Runs").first.wait_for()
    page.get_by_text("summary/total_bp").first.wait_for()
    text = page.inner_text("body")
    for metric in ("summary/gas_bp", "summary/tracking_bp", "ts/cost_bp"):
        assert metric in text


def test_the_report_opens_inside_the_run_and_shows_the_headline_and_its_charts(site, page):
    _, where, base = site
    page.goto(f"{base}/#/experiments/{where.experiment_id}/runs/{where.summary_run}/artifacts/report.html")
    frame = page.frame_locator("iframe").first
    frame.get_by_text(verdict(fake.data()).lines[0][:60]).wait_for()
    assert frame.locator(".ratios .row").count() == len(fake.NAVS) * 2
    assert frame.locator("details img").count() >= 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_stands_alone_in_light_and_dark(site, page, scheme):
    _, where, _ = site
    page.emulate_media(color_scheme=scheme)
    page.goto(where.report.as_uri())
    page.locator(".verdict").wait_for()
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (brightness(ink) < brightness(paper)) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def brightness(colour: str) -> int:
    return sum(int(n) for n in re.findall(r"\d+", colour)[:3])

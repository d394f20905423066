"""The pictures of docs/images, taken from a real project: ``make pictures PROJECT=DIR``.

PROJECT is a folder whose newest comparison is shown (of imported recorded data, or the demo). The dashboard of the
scheduler is taken at the end of a drill: ``make ops OPS_ARGS='--picture docs/images/prefect.png'``.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from pipelines.deployments import deployments
from pipelines.experiments import client, saved_view
from pipelines.experiments.ui import mlflow_server
from pipelines.scheduled.portfolio_serving import serving
from pipelines.sections import PageSection
from pipelines.servers.subprocesses import free_port
from pipelines.settings import Settings, load
from tests.pipelines.browser import PATIENCE_MS, chromium, new_page

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SETTLED_MS = 4_000  # animations end
LARGEST = 450_000  # bytes


def take(page: Any, file: Path) -> None:
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=file)
    size = file.stat().st_size
    assert size < LARGEST, (file, size)
    print(f"{file.name}: {size:,} bytes")


def of_comparison(settings: Settings, browser: Any) -> None:
    """Show the newest comparison: charts, table, two policies side by side, the report."""
    mlf = client.client(settings)
    experiment = mlf.get_experiment_by_name(client.COMPARISON)
    if experiment is None:
        print("no comparison is logged in this project: its pictures stay as they are")
        return
    [summary] = mlf.search_runs([experiment.experiment_id], "tags.kind = 'summary'", max_results=1)
    key, where = summary.data.tags["comparison_id"], experiment.experiment_id
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with mlflow_server(settings, port):
        page = new_page(browser)
        page.goto(saved_view.link(base, where, key))
        page.get_by_text("Group: predictive").first.wait_for()
        page.get_by_text(saved_view.NAMED["total_bp"]).first.wait_for()
        take(page, IMAGES / "mlflow_charts.png")
        page.goto(saved_view.link(base, where, key, chart=False))
        page.get_by_text("(average)").first.wait_for()
        take(page, IMAGES / "mlflow_runs.png")
        chosen = f"tags.comparison_id = '{key}' AND tags.scenario = 'hard_tight' AND tags.nav_usd = '100000'"
        page.goto(f"{base}/#/experiments/{where}/runs?searchFilter={quote(chosen)}")
        for policy in ("predictive", "gas_band"):
            row = page.get_by_role("row").filter(has_text=re.compile(rf"{policy} hard_tight"))
            row.get_by_role("checkbox").first.check()
        page.get_by_role("button", name="Compare").click()
        page.get_by_text("summary/total_bp").first.wait_for()
        take(page, IMAGES / "mlflow_compare.png")
    page = new_page(browser, 1_300)
    page.goto((Path(summary.info.artifact_uri.removeprefix("file://")) / "report.html").as_uri())
    page.locator(".verdict").wait_for()
    take(page, IMAGES / "report.png")


def of_portfolio(settings: Settings, browser: Any) -> None:
    """Show the portfolio page of the first vault: both screens wide and light, the first on a phone in the dark."""
    given = PageSection(port=free_port())
    with serving(deployments(settings)[:1], given, settings.watch.stale_after) as address:
        while "NAV" not in httpx.get(address, timeout=60).text:
            time.sleep(0.2)
        for name, width, height, theme in (
            ("portfolio.png", 1_440, 900, "light"), ("portfolio_phone.png", 390, 844, "dark"),
        ):  # fmt: skip
            size = {"width": width, "height": height}
            page = browser.new_context(viewport=size, color_scheme=theme).new_page()
            page.goto(address, timeout=PATIENCE_MS)
            take(page, IMAGES / name)
            if theme == "light":
                page.evaluate("document.getElementById('h-hist').scrollIntoView()")
                take(page, IMAGES / "portfolio_more.png")


def of_scheduler(url: str, file: Path) -> None:
    """Show the dashboard of a running scheduler, by its API address."""
    with chromium() as browser:
        page = new_page(browser, 760)
        page.goto(f"{url.removesuffix('/api')}/dashboard")
        page.get_by_text("Active Work Pools").first.wait_for()
        take(page, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("project", type=Path, help="folder of a foredrift.toml with a comparison")
    given = parser.parse_args()
    settings = load(given.project / "foredrift.toml")
    with chromium() as browser:
        of_portfolio(settings, browser)
        if settings.mlflow.tracking_uri:
            of_comparison(settings, browser)


if __name__ == "__main__":
    main()

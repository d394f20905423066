"""The pictures of docs/images: ``make pictures``, of a portfolio that is made to live on paper for them.

``make pictures PROJECT=DIR`` takes them of a project of one's own, with its newest comparison. The dashboard of the
scheduler is taken at the end of a drill: ``make ops OPS_ARGS='--picture docs/images/prefect.png'``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from pipelines.deployments import deployments
from pipelines.experiments import client, saved_view
from pipelines.experiments.ui import mlflow_server
from pipelines.scheduled.portfolio_serving import serving
from pipelines.sections import PageSection
from pipelines.servers.subprocesses import free_port
from pipelines.settings import Settings, load
from tests.pipelines.browser import PATIENCE_MS, chromium, new_page
from tests.pipelines.paper_project import lived

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
    """Show the newest comparison: charts, table, the report."""
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
    page = new_page(browser, 1_300)
    page.goto((Path(summary.info.artifact_uri.removeprefix("file://")) / "report.html").as_uri())
    page.locator(".verdict").wait_for()
    take(page, IMAGES / "report.png")


def of_portfolio(settings: Settings, browser: Any) -> None:
    """Show the portfolio page of the first vault: its first screen, wide and on a phone, in both themes; its second."""
    given = PageSection(port=free_port())
    with serving(deployments(settings)[:1], given, settings.watch.stale_after) as address:
        while "NAV" not in httpx.get(address, timeout=60).text:
            time.sleep(0.2)
        for name, width, height, theme in (
            ("portfolio.png", 1_440, 900, "light"), ("portfolio_dark.png", 1_440, 900, "dark"),
            ("portfolio_phone.png", 390, 844, "light"), ("portfolio_phone_dark.png", 390, 844, "dark"),
        ):  # fmt: skip
            size = {"width": width, "height": height}
            context = browser.new_context(viewport=size, color_scheme=theme)
            page = context.new_page()
            page.goto(address, timeout=PATIENCE_MS)
            take(page, IMAGES / name)
            if name == "portfolio.png":
                page.evaluate("document.getElementById('h-hist').scrollIntoView()")
                take(page, IMAGES / "portfolio_more.png")
            context.close()


def of_scheduler(url: str, file: Path) -> None:
    """Show the dashboard of a running scheduler, by its API address."""
    with chromium() as browser:
        page = new_page(browser, 760)
        page.goto(f"{url.removesuffix('/api')}/dashboard")
        page.get_by_text("Active Work Pools").first.wait_for()
        take(page, file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    help_ = "folder of a foredrift.toml with a comparison (default: one is made, about five minutes of one core)"
    parser.add_argument("project", type=Path, nargs="?", help=help_)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, chromium() as browser:
        settings = lived(Path(folder)) if given.project is None else load(given.project / "foredrift.toml")
        of_portfolio(settings, browser)
        if settings.mlflow.tracking_uri:
            of_comparison(settings, browser)


if __name__ == "__main__":
    main()

"""How the headless Chromium is started, and what MLflow keeps in it once a person has looked around."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REMEMBERED = {  # what MLflow keeps in the browser once a person chose "Model training" and closed the side panel
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}
PATIENCE_MS = 240_000


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a running headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


def new_page(browser: Any, height: int = 900) -> Any:
    """Return a page of a fresh profile, 1440 pixels wide."""
    context = browser.new_context(viewport={"width": 1440, "height": height})
    pairs = json.dumps(REMEMBERED)
    context.add_init_script(f"for (const [k, v] of Object.entries({pairs})) localStorage.setItem(k, v);")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page

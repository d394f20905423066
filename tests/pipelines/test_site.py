"""The documentation as a site: built with warnings as errors, searchable offline, its reference that of the code."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from tests.pipelines.test_verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="mkdocs-material is missing: pip install foredrift[docs]"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_built_and_asks_no_other_host(site):
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")}
    assert pages <= {p.stem for p in site.glob("*.html")}
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"(https?://[^\"]+)\"", page.read_text())
        assert loaded == [], page.name


def test_notebooks_are_pages_with_their_code_and_can_be_downloaded(site):
    for notebook in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        page = (site / "notebooks" / f"{notebook.stem}.html").read_text()
        assert f'href="{notebook.name}"' in page
        assert (site / "notebooks" / notebook.name).read_bytes() == notebook.read_bytes()
        cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
        assert page.count('class="highlight"') == len(cells)
        assert '.ipynb"' not in page.replace(f'href="{notebook.name}"', "")


def test_words_are_found_without_a_network(site):
    index = next(site.glob("search/search_index.js*"))
    text = index.read_text(encoding="utf-8")
    docs = json.loads(text[text.index("{") : text.rindex("}") + 1])["docs"]
    for word in ("loss_budget_bps", "gas_band", "foredrift backup"):
        assert any(word in d["text"] or word in d["title"] for d in docs), word


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("[gone](gone.md)")
    settings = (ROOT / "mkdocs.yml").read_text().split("nav:\n  - Start")[0].replace("docs/hooks.py", "hooks.py")
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "hooks.py").write_text((ROOT / "docs" / "hooks.py").read_text())
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "gone.md" in done.stderr


def test_the_page_of_verbs_is_that_of_the_code():
    made = CliRunner().invoke(app, ["config", "schema", "--form", "verbs"]).stdout
    assert (ROOT / "docs/verbs.md").read_text(encoding="utf-8") == made
    for verb in VERBS:
        assert f"## foredrift {verb}\n" in made

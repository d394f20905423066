"""The documented commands are executed as written, on a small made-up set of files with the documented columns."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from lake.sources.sample import simulate
from lake.units import utc
from pipelines.cli import app

ROOT = Path(__file__).resolve().parents[2]
START, HOURS = utc("2022-01-01"), 24 * 260
SERVERS = ("foredrift ui", "foredrift serve")  # other tests start these for real
SMALL = {
    "FOREDRIFT_COMPARE__PORTFOLIOS": "1",
    "FOREDRIFT_COMPARE__NAV_USD": "[100000]",
    "FOREDRIFT_COMPARE__BOOTSTRAP": "100",
    "FOREDRIFT_COMPARE__POLICIES": '["gas_band","threshold_5pct"]',
    "FOREDRIFT_MODELS__THREADS": "1",
    "FOREDRIFT_MODELS__ROUNDS": "8",
    "FOREDRIFT_MODELS__REFIT_EVERY": "180d",
    "FOREDRIFT_MODELS__TRAIN_WINDOW": "30d",
    "FOREDRIFT_PORTFOLIO__ASSETS": '["BTC","ETH"]',
    "OMP_NUM_THREADS": "1",
}


def blocks(file: str, section: str = "") -> list[list[str]]:
    """Return the commands of every fenced sh block of ``file`` after the heading ``section``, comments removed."""
    text = (ROOT / file).read_text()
    if section:
        text = text.split(f"## {section}", 1)[1].split("\n## ", 1)[0]
    found = []
    for body in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        lines = [re.sub(r"\s+#.*$", "", line).strip() for line in body.splitlines()]
        found.append([line for line in lines if line and not line.startswith("#")])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the README, made from the simulated market."""
    root = tmp_path_factory.mktemp("own")
    made = simulate(start=START, hours=HOURS)
    ts = pl.col("ts")
    made["prices"].filter(pl.col("asset").is_in(["BTC", "ETH"])).select(
        "asset", "ts", "open", "high", "low", "close", "volume"
    ).write_parquet(root / "prices_1h.parquet")
    made["gas"].select("ts", gas_price_gwei="base_fee_gwei").write_parquet(root / "gas_1h.parquet")
    pool = made["pool_state"].filter(pl.col("pool") == pl.col("pool").first())
    pool.select("ts", price_usdc_per_weth="price").with_columns(
        chain_id=pl.lit(1, pl.Int64), pool=pl.lit("pool")
    ).write_parquet(root / "pool_1h.parquet")
    days = made["gas"].filter(ts.dt.hour() == 0).select("ts")
    days.with_columns(fear_greed=pl.lit(50.0)).write_parquet(root / "fear_greed_1d.parquet")
    days.with_columns(asset=pl.lit("ETH"), funding_rate_8h_mean=pl.lit(1e-4)).write_parquet(root / "funding_1d.parquet")
    return root


def run(command: str, cwd: Path) -> str:
    """Run ``command`` as a process of its own, as a person would; return what it printed."""
    words = words_of(command)
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words],
        cwd=cwd,
        env=os.environ | SMALL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-1_500:]}\n{done.stderr[-1_500:]}"
    return done.stdout


def words_of(command: str) -> list[str]:
    first, *words = shlex.split(command)
    assert first == "foredrift", command
    return words


def run_here(command: str, environment: dict[str, str]) -> str:
    """Run ``command`` in this process and folder, which spares the libraries' start; return what it printed."""
    done = CliRunner().invoke(app, words_of(command), env=environment)
    assert done.exit_code == 0, f"{command}\n{done.output[-3_000:]}\n{done.exception!r}"
    return done.output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readme_with_your_own_files(folder):
    [commands] = blocks("README.md", "With your own files")
    assert len(commands) >= 8
    for command in commands:
        if not command.startswith(SERVERS):
            run(command, folder)
    assert (folder / "out.json").stat().st_size > 0


def spans(text: str) -> Iterator[str]:
    """Yield what a page shows as code: the lines of its fenced blocks, joined where one goes on, and inline code."""
    fenced = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    for body in fenced.findall(text):
        yield from (re.sub(r"\s+#.*$", "", line).strip() for line in body.replace("\\\n", " ").splitlines())
    yield from (code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", fenced.sub("", text)))


def unknown(shown: str) -> list[str]:
    """Return what is no verb or no option of the verb in a shown command; options in brackets count, too."""
    here, words = get_command(app), [w for w in shown.split() if w != "--help"]  # every verb has it
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    if words[:1] != ["foredrift"]:
        return []
    known, rest = set(options_of(here)), words[1:]
    while rest:
        word = rest[0].split("|")[0]  # new|show: the first of several
        if word not in known and word not in getattr(here, "commands", {}):
            break
        rest.pop(0)
        if word not in known:
            here = here.commands[word]
            known |= set(options_of(here))
    if rest and hasattr(here, "commands") and not here.invoke_without_command:
        return rest[:1]
    return [o for o in map(bare, rest) if o.startswith("-") and o != "-" and o not in known]


def options_of(command: Any) -> list[str]:
    return [o for p in command.params for o in (*p.opts, *p.secondary_opts)]


def bare(word: str) -> str:
    return word.strip("[],.").split("=")[0]


def test_every_command_that_a_page_shows_exists_with_these_options():
    pages = [ROOT / f for f in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").rglob("*.md"))
    pages += [p for p in sorted((ROOT / "deploy").rglob("*")) if p.is_file()]
    shown = [
        (page.name, part) for page in pages for code in spans(page.read_text())
        for part in re.split(r"\s(?:\||&&|;|>)\s", code) if part.startswith("foredrift ") or " foredrift " in part
    ]  # fmt: skip
    assert len(shown) > 250
    assert [(page, part, wrong) for page, part in shown if (wrong := unknown(part))] == []


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        ("foredrift rebalance --live", []),
        ("FOREDRIFT_X=1 foredrift -q backup --out x", []),
        ("foredrift compare [--start --end]", []),
        ("foredrift rebalanse", ["rebalanse"]),
        ("foredrift vault", []),
        ("foredrift vault deply --live", ["deply"]),
        ("foredrift train --fast", ["--fast"]),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(shown, wrong):
    assert unknown(shown) == wrong


def test_the_links_of_the_documents_lead_somewhere():
    named = set()
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)|(?:src|srcset)=\"([^\":]+)\"", file.read_text()):
            found = file.parent / "".join(target)
            assert found.exists(), f"{file.name}: {target}"
            named.add(found.resolve())
    assert [p.name for p in sorted((ROOT / "docs/images").iterdir()) if p.resolve() not in named] == []


def test_every_alert_is_in_the_runbook():
    from pipelines.monitor.notify import EVENTS

    text = (ROOT / "docs/runbook.md").read_text()
    assert all(f"| {event} |" in text for event in EVENTS)

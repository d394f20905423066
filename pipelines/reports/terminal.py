"""What people see in the terminal: tables, progress bars, plans. Figures come ready made; nothing is computed here."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from models.families import families
from pipelines.progress import Progress, silent
from pipelines.reports import nulls
from pipelines.reports.check_words import said
from pipelines.reports.output import hushed
from pipelines.reports.portfolio_words import coverage_rows
from pipelines.reports.surfaces import surface_words
from pipelines.reports.words import with_unit
from policy.names import BASELINE, BOUND, CLAIMANT, HEADLINE

if TYPE_CHECKING:
    from lake.ingest import IngestReport

NARROWEST = 110  # columns where the output is no terminal and COLUMNS says nothing: tables stay whole in files and logs
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)\S*\+00:00")  # UTC, shown to the minute
LEAST_TEXT = 12  # columns that a wrapped text needs to stay readable
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else NARROWEST)
_LEVEL = {"ok": Text("ok", "green"), "warn": Text("warn", "yellow"), "error": Text("error", "red")}


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress callback that draws one bar per description on stderr, or prints lines where that is a file."""
    if hushed() is not None:
        yield silent
        return
    if not console_of_errors().is_terminal:
        yield lines(lambda text: print(text, file=sys.stderr, flush=True))
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console_of_errors(), transient=False) as bars:
        known: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            name = what.split(" ", 1)[0]
            if name not in known:
                known[name] = bars.add_task(what, total=total)
            bars.update(known[name], completed=done, total=total, description=what)

        yield report


def console_of_errors() -> Console:
    """Return a console on stderr as it is now."""
    return Console(stderr=True)


def lines(write: Callable[[str], None]) -> Progress:
    """Return a progress callback that writes a line at the start, the end and every tenth of what is done."""
    told: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        name, tenth = what.split(" ", 1)[0], 10 * done // max(total, 1)
        if told.get(name) != tenth:
            told[name] = tenth
            write(f"{what}: {done} of {total}")

    return report


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], right_from: int = 1, whole: int | None = None
) -> None:
    """Print one table; columns from ``right_from`` on are right-aligned, those from ``whole`` (the same) on may wrap.

    Where it does not fit, texts wrap; where that is not enough either, each row is printed as lines of name and value:
    a number, a state or a remedy is never cut off. Texts are data, not markup, unless they are a ``Text``.
    """
    cells = [[_cell(v) for v in row] for row in rows]
    texts = right_from if whole is None else min(whole, right_from)
    widths = [max([len(name), *(cell_len(r[i].plain) for r in cells)]) for i, name in enumerate(columns)]
    framed, bare = console.width - 3 * len(columns) - 1, console.width - 2 * len(columns) + 2
    foldable = {i for i in range(len(columns)) if (whole is not None and i >= whole) or i < texts}
    least = sum(min(w, LEAST_TEXT) if i in foldable else w for i, w in enumerate(widths))
    if least > bare and len(columns) > 1:
        _as_lines(title, columns, cells)
        return
    form: dict[str, Any] = {} if least <= framed else {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}
    out = Table(title=Text(title), title_justify="left", title_style="bold", header_style="bold", **form)
    for i, name in enumerate(columns):
        least_width = min(widths[i], LEAST_TEXT) if i in foldable else widths[i]
        justify: Literal["left", "right"] = "right" if i >= right_from else "left"
        out.add_column(Text(name), justify=justify, no_wrap=i not in foldable, min_width=least_width, overflow="fold")
    for row in cells:
        out.add_row(*row)
    console.print(out)


def _as_lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print rows one below the other, a line a column: for a terminal narrower than the table."""
    console.print(Text(title, style="bold"))
    label = max(len(name) for name in columns)
    for row in rows:
        for name, value in zip(columns, row, strict=True):
            line = Table.grid(padding=(0, 1))
            line.add_column(width=label, no_wrap=True)
            line.add_column(overflow="fold")
            line.add_row(Text(name, style="dim"), value)
            console.print(line)
        console.print()


def say(*parts: str | tuple[str, str]) -> None:
    """Print one line of texts, each as it is or as ``(text, style)``: no markup is read in them, no address broken."""
    console.print(Text.assemble(*parts), soft_wrap=True)


def _share(weight: float | None) -> str | None:
    return None if weight is None else f"{100 * weight:.2f} %"


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("-")
    if isinstance(value, float):
        return Text(f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4f}")
    text = str(value)
    moment = _MOMENT.fullmatch(text)
    return Text(f"{moment[1]} {moment[2]}" if moment else text)


def ingest_reports(reports: Sequence[IngestReport]) -> None:
    """Print rows, gaps and freshness per source."""
    from pipelines.reports.ingest_rows import as_rows

    rows = as_rows(reports)
    names = ["source", "table", "added", "updated", "gaps", "newest"]
    table("Ingested", names, [[r[n] for n in names] for r in rows], right_from=2)
    for report in reports:
        for gap in report.gaps[:5]:
            say(("  gap", "yellow"), f" {gap.key}: {gap.start} .. {gap.end}")
        if report.flagged:
            say(("→", "yellow"), f" {report.key}: {report.flagged} implausible rows held back: foredrift lake flagged")


def ingest_json(reports: Sequence[IngestReport]) -> list[dict[str, Any]]:
    """Return ingest reports as plain data."""
    from pipelines.reports.ingest_rows import as_rows

    return as_rows(reports)


def status(report: Mapping[str, Any]) -> None:
    """Print freshness of tables, forecasts and models, and the last decision."""
    names = ["table", "series", "rows", "last", "age_h", "state"]
    table("Lake (times in UTC)", names, [[r[n] for n in names] for r in report["tables"]], right_from=2)
    if report["forecasts"]:
        names = ["target", "rows", "last", "age_h", "abstained"]
        table("Forecasts", names, [[r[n] for n in names] for r in report["forecasts"]])
    if report["models"]:
        names = ["family", "version", "trained_until", "age_d"]
        table("Models in force", names, [[r[n] for n in names] for r in report["models"]], right_from=3)
    if report["coverage"]:
        hours, found = coverage_rows(report["coverage"])
        rows = [[name, *("" if s is None else f"{s:.0%}" for s in shares)] for name, shares in found]
        table("Outcomes within the 90 % interval, by hours ahead", ["forecast", *(f"{h} h" for h in hours)], rows)
    last = report["decision"]
    said_last = f"last decision: {last['decision_id']} {last['action']} at {_cell(last['ts'])} UTC" if last else ""
    say(said_last or "no decision yet")
    several = len(report["deployments"]) > 1
    for one in report["deployments"]:
        if one.get("sentence"):
            say(f"{one['name']}: " if several else "", one["sentence"])
    if several:
        names = ["name", "vault", "chain", "policy", "live", "action", "ts", "drift_distance"]
        table("Deployments", names, [[r[n] for n in names] for r in report["deployments"]], right_from=7)
    kept = [(r["name"], r["keeper"]) for r in report["deployments"] if r["keeper"]["held"]]
    if kept:
        names = ["pid", "block", "age_s", "head_age_s", "table", "order"]
        table("Kept block by block", ["name", *names], [[name, *_kept(k, names)] for name, k in kept], right_from=1)
    for row in report["deployments"]:
        if row["surface"]["evidence"]:
            say(f"surface of {row['name']}: {surface_words(row['surface'])}")
    if report.get("served_keepers"):
        names = ["vaults", "live", "state", "pid", "restarts", "why"]
        rows = [[", ".join(r["vaults"]), *(r[n] for n in names[1:])] for r in report["served_keepers"]]
        table("Keepers of foredrift serve", names, rows, right_from=9, whole=3)
    if hedge := report.get("hedge"):
        say(f"last hedge: {hedge['action']} at {_cell(hedge['ts'])} UTC by {hedge['rule']}: {hedge['why']}")
    figures = {with_unit(k): v for k, v in report["figures"].items() if v is not None}
    if figures:
        table("At the last decision", list(figures), [list(figures.values())], right_from=0)
    for line in report["advice"]:
        say(("→ ", "yellow"), line)


def _kept(keeper: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Return a keeper's cells; an armed order as the gas it waits for, a surface as the start of its hash."""
    order, table_ = keeper["order"], keeper["table"]
    said = {"order": f"{order['cap_gwei']:.2f} gwei" if order else "-", "table": (table_ or "closed form")[:12]}
    return [said.get(n, keeper[n]) for n in names]


def trial(found: Mapping[str, Any]) -> None:
    """Print what a keeper's trial counted: what must be zero, what was done, how long it took (ms)."""
    zeros = {**found["chain"], **{n: found[n] for n in ("double_executions", "sent_on_orphan", "missed_triggers")}}
    table("Must be zero", [n.replace("_", " ") for n in zeros], [list(zeros.values())], right_from=0)
    names = ["blocks", "looks", "reorgs", "executions", "plans", "orders_armed", "rss_slope_mb", "seconds", "settled"]
    table("Done", [n.replace("_", " ") for n in names], [[found[n] for n in names]], right_from=0)
    names = list(found["latency"])
    table("Latency", [n.replace("_", " ") for n in names], [[found["latency"][n] for n in names]], right_from=0)


def findings(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the doctor's findings, each with its remedy."""
    shown = [[r["check"], _LEVEL[r["level"]], r["found"], r["do"]] for r in rows]
    table("Doctor", ["check", "", "found", "do"], shown, right_from=9, whole=2)


def leakage(report: Mapping[str, Any]) -> None:
    """Print what was perturbed and whether anything earlier moved."""
    names = ["stage", "moments", "values", "changed"]
    table("Perturb the future", names, [[r[n] for n in names] for r in report["stages"]])
    good = ("nothing at or before the moment changed", "green")
    say(("look-ahead found", "red") if report["leaks"] else good)


def training(result: Any) -> None:
    """Print the score table of a training run."""
    for title, columns, rows in result.tables:
        table(title, columns, rows)
    if result.url:
        say(f"MLflow: foredrift ui, then {result.url}")


def forecasts(result: Mapping[str, Any]) -> None:
    """Print issued forecasts in the unit of each target (gwei, per cent, basis points)."""
    names = ["q05", "q50", "q95", "mean"]
    units = {target: unit for row in families().values() for target, unit in row.units.items()}
    shown = [
        [r["target"], r["key"], r["horizon_h"], units[r["target"]][0]]
        + [None if r[n] is None else f"{r[n] * units[r['target']][1]:z,.2f}" for n in names]
        + [r["abstains"] or "-"]
        for r in result["rows"]
        if r["target"] in units
    ]
    heads = ["target", "key", "hours", "unit", "5 %", "median", "95 %", "mean", "abstains"]
    table(f"Forecasts issued at {_cell(result['issued_at'])} UTC", heads, shown, 2, whole=8)


def models(report: Mapping[str, Any]) -> None:
    """Print champions, challengers and the last judgements."""
    names = ["family", "version", "alias", "trained_until", "age_d", "state"]
    table("Models", names, [[r[n] for n in names] for r in report["versions"]])
    for row in report["decisions"]:
        say(f"{row['at']} {row['family']} {row['version']}: {row['decision']}; {row['reason']}")
    for line in report.get("due", ()):
        say(("→ ", "yellow"), f"train again: {line}")


def comparison(outcome: Any) -> None:
    """Print the policy table, the paired ratios, the headroom, and where to look."""
    policies(outcome.json)
    if outcome.report:
        say(f"report: {outcome.report}")
    if outcome.url:
        say(f"MLflow: foredrift ui, then {outcome.url}")


FINER = (
    "gas_limit", "gas_band_5m", "surface_5m", "surface_mix_5m", "gas_band_block", "surface_block", "surface_mix_block",
)  # fmt: skip


def policies(data: Mapping[str, Any]) -> None:
    """Print the comparison tables from the JSON figures; every other pair is in the JSON and the report."""
    names = ["total_bp", "gas_bp", "fee_bp", "impact_bp", "tracking_bp", "trades_per_year"]
    heads = ["total", "gas", "fee", "impact", "tracking", "trades/yr", "broken", "TE %"]
    cells = sorted({(r["scenario"], r["nav_usd"]) for r in data["policies"]}, key=lambda c: (c[0], c[1]))
    for scenario, nav in cells:
        rows = [r for r in data["policies"] if (r["scenario"], r["nav_usd"]) == (scenario, nav)]
        table(
            f"{scenario}, NAV ${nav:,.0f}: cost in bp of NAV a year",
            ["policy", *heads],
            [[r["policy"], *[_short(r[n]) for n in names], _broken(r), _short(100 * r["te_annual"])] for r in rows],
        )
        if data["data"].get("resolution", "hour") != "hour":
            fine = ["minutes_outside", "gas_per_trade_usd", "wait_s"]
            table(
                f"{scenario}, NAV ${nav:,.0f}: looked at every {data['data']['resolution']}",
                ["policy", "min outside/yr", "gas USD/trade", "wait s", "unfilled"],
                [[r["policy"], *[_short(r[n]) for n in fine], str(r["unfilled"])] for r in rows],
            )
    if any(r.get("violations_could_not") for r in data["policies"]):
        say("broken a+b: a hours in breach a trade could have ended, b in which none could")
    for note in data["data"].get("notes", ()):
        say(f"note: {note}")
    chosen = [r for r in nulls.complete_rows(data, "pairs") if r["a"] == CLAIMANT and r["b"] in HEADLINE]
    chosen += [r for r in nulls.complete_rows(data, "pairs") if r["a"] == BOUND and r["b"] == BASELINE]
    chosen += [r for r in nulls.complete_rows(data, "pairs") if r["a"] in FINER and r["b"] == BASELINE]
    if chosen:
        table(
            "Paired cost ratios, 95 % weekly block bootstrap (below 1: the first is cheaper)",
            ["a / b", "scenario", "NAV", "ratio", "low", "high"],
            [
                [f"{r['a']} / {r['b']}", r["scenario"], f"{r['nav_usd']:,.0f}", r["ratio"], r["ci_low"], r["ci_high"]]
                for r in chosen
            ],
            2,
        )
    if data["headroom"]:
        table(
            "Headroom captured: share of what perfect gas foresight would save over gas_band",
            ["scenario", "NAV", "captured", "low", "high"],
            [
                [r["scenario"], f"{r['nav_usd']:,.0f}", *[r[n] for n in ("captured", "ci_low", "ci_high")]]
                for r in nulls.complete_rows(data, "headroom")
            ],
        )


def _short(value: float | None) -> str:
    """Return a figure in at most six characters up to 99,999: a table of eight of them fits into 80 columns."""
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}" if abs(value) < 1_000 else f"{value:,.0f}"


def _broken(row: Mapping[str, Any]) -> str:
    """Return the hours beyond a hard mandate's caps, split where no trade could have ended some of them."""
    powerless = row.get("violations_could_not", 0)
    return f"{row['violations'] - powerless}+{powerless}" if powerless else str(row["violations"])


def plan(report: Mapping[str, Any]) -> None:
    """Print a plan before anything is signed: weights, legs, routes, costs, benefit, verdicts."""
    why = report["why"].removeprefix(f"{report['action']}: ")
    say(f"decision {report['decision_id']}: ", (report["action"], "bold"), f", {why}")
    shares = [[row[0], *map(_share, row[1:4])] for row in report["weights"]]
    table("Weights", ["asset", "now", "wanted", "target"], shares)
    if report["legs"]:
        table("Legs", ["from", "to", "amount in", "min out", "route"], report["moves"], 2)
    table(
        "Expected", ["", "USD"], [[k.removesuffix("_usd").replace("_", " "), v] for k, v in report["expected"].items()]
    )
    for verdict in report["verdicts"]:
        say(("  ok", "green") if verdict["ok"] else ("  refused", "red"), f" {said(verdict)}")
    if report["rules_off_chain"]:
        say(f"  checked here, not by the vault's contract: {', '.join(report['rules_off_chain'])}")


def settlement(result: Mapping[str, Any]) -> None:
    """Print what became of the cycle: the weights from balances, gas and transaction where one was sent."""
    settled = result.get("settlement")
    if settled is not None:
        shares = [[row[0], *map(_share, (*row[1:3], row[4]))] for row in result["weights"]]
        table("Settled", ["asset", "before", "wanted", "after"], shares)
        say(f"gas {settled['gas_used']:,}, transaction {(result['attempts'] or [{}])[-1].get('tx_hash', '-')}")
    say("outcome: ", (str(result["outcome"]), "bold"), f" {result.get('summary', '')}")


def explanation(result: Mapping[str, Any]) -> None:
    """Print a decision in words and numbers."""
    say(result["text"])


def replayed(result: Mapping[str, Any]) -> None:
    """Print which recorded decisions come out the same when they are taken again."""
    rows = [[r["decision_id"], "the same" if r["same"] else ", ".join(r["differs"])] for r in result["decisions"]]
    table("Decisions taken again from their records", ["decision", "differs in"], rows, right_from=2)
    older = f"; {result['older']} older records lack what it takes" if result["older"] else ""
    good = result["same"] == result["of"]
    say((f"{result['same']} of {result['of']} identical", "green" if good else "red"), older)


def audit(result: Mapping[str, Any]) -> None:
    """Print the state of the audit chain."""
    say((result["text"], "green" if result["ok"] else "red"))

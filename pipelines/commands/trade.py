"""Verbs around decisions: compare, thresholds, rebalance, explain, report, audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lake.errors import ConfigError
from pipelines.commands.options import Config, Deployment, End, Json, Start, write_json

if TYPE_CHECKING:
    from pipelines.deployments import Deployment as Project
    from pipelines.vault_settings import VaultSettings
    from pipelines.wiring import PanelChoice

audit_app = typer.Typer(help="The tamper-evident record of every decision.", no_args_is_help=True)

Windows = Annotated[
    str | None,
    typer.Option(
        metavar="START..END,...",
        help="Ratios on several stretches, by stretch and pooled: mirrored paths, and the recorded one from "
        "30 starts; 'recorded' takes every stretch with gas. Nothing is logged (default: one span, logged).",
    ),
]
Chains = Annotated[
    str | None,
    typer.Option(
        metavar="ID,ID,...",
        help="Compare one portfolio on these chains, whole against each chain alone, under seeded flows of investors; "
        "the first is the one whose gas and pools are recorded, e.g. 1,42161,8453 (default: one chain).",
    ),
]
Families = Annotated[
    str | None,
    typer.Option(
        help="Cost with over without each family of forecasts, gas,drift,slippage; nothing logged (default: none)."
    ),
]


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("compare", rich_help_panel="Decide")(compare)
    app.command("thresholds", rich_help_panel="Decide")(thresholds)
    app.command("rebalance", rich_help_panel="Decide")(rebalance)
    app.command("explain", rich_help_panel="Decide")(explain)
    app.command("report", rich_help_panel="Decide")(report)
    app.add_typer(audit_app, name="audit", rich_help_panel="Watch")


def compare(
    start: Start = None,
    end: End = None,
    portfolios: Annotated[
        int | None, typer.Option(min=1, help="Number of portfolios in the panel (default: \\[compare] portfolios).")
    ] = None,
    policies: Annotated[
        str | None, typer.Option(help="Comma-separated policies (default: \\[compare] policies).")
    ] = None,
    skill: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Replace gas forecasts by SKILL x truth + (1 - SKILL) x noise, a share of 1 (default: as issued).",
        ),
    ] = None,
    resolution: Annotated[
        str,
        typer.Option(
            help="hour, 5m or block: how often the market is looked at; finer gas and prices as recorded, "
            "else a seeded semi-synthetic world, marked so."
        ),
    ] = "hour",
    flat_gas: Annotated[
        bool, typer.Option("--flat-gas", help="With 5m or block: hold gas at each hour's mean (what timing is not).")
    ] = False,
    engine: Annotated[str, typer.Option(help="threads, dask, or dask=ADDRESS of a running scheduler.")] = "threads",
    artifacts: Annotated[
        Path | None,
        typer.Option(help="Also write Parquet artifacts (with --hedge the frontier) here (default: to MLflow)."),
    ] = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Log runs and plots to MLflow.")] = True,
    hedge: Annotated[
        Path | None,
        typer.Option(metavar="BOOK.toml", help="Compare hedge rules on this book's template (default: policies)."),
    ] = None,
    chains: Chains = None,
    windows: Windows = None,
    ablate: Families = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Compare predictive with reactive policies on a panel of portfolios; logs one MLflow run per policy."""
    from pipelines.settings import load

    settings = load(config)  # first: what is wrong with it is said before seconds of imports
    if chains is not None:
        from pipelines.deployments import deployment as called

        given = {"--hedge": hedge, "--policies": policies, "--skill": skill, "--windows": windows, "--ablate": ablate}
        given["--resolution"] = None if resolution == "hour" else resolution
        _compare_chains(called(settings), chains, (start, end), portfolios, given, json, track=track)
        return
    if hedge is not None:
        from pipelines.deployments import deployment as called

        given = {"--portfolios": portfolios, "--policies": policies, "--skill": skill}
        others = [k for k, v in given.items() if v is not None]
        if others:
            raise ConfigError(f"{', '.join(others)}: of portfolios, not of a hedge; leave out with --hedge")
        _compare_hedges(called(settings), hedge, start, end, artifacts, json, track)
        return
    from pipelines.reports import terminal
    from pipelines.stages.compare import compare as run
    from pipelines.wiring import PanelChoice
    from policy.realtime.looks import resolution_of

    asked = PanelChoice(
        portfolios, policies.split(",") if policies else None, skill, resolution_of(resolution), flat_gas
    )
    if windows is not None or ablate is not None:
        from pipelines.deployments import deployment as called

        _evidence(called(settings), windows, ablate, (start, end), asked, json)
        return
    with terminal.progress() as bar:
        outcome = run(settings, start, end, bar, asked, engine=engine, artifacts=artifacts, track=track)
    terminal.comparison(outcome)
    write_json(json, outcome.json)


def _evidence(
    project: Project, windows: str | None, ablate: str | None, span: tuple[str | None, str | None],
    asked: PanelChoice, json: str | None,
) -> None:  # fmt: skip
    """Print and write the evidence of several stretches, and of families of forecasts."""
    from pipelines.reports import stretch_tables, terminal
    from pipelines.stages.stretches import evidence

    if windows is not None and any(span):
        raise ConfigError("--windows names its own spans; leave out --start and --end")
    if asked.policies or asked.resolution != "hour":
        raise ConfigError(
            "--windows and --ablate judge the predictive policy hour by hour; leave out --policies and such"
        )
    families = tuple(part.strip() for part in ablate.split(",")) if ablate else ()
    with terminal.progress() as bar:
        found = evidence(project, windows, families, span, bar, asked)
    stretch_tables.evidence(found)
    write_json(json, found)


def _compare_chains(
    project: VaultSettings, chains: str, span: tuple[str | None, str | None], portfolios: int | None,
    given: Mapping[str, object], json: str | None, *, track: bool,
) -> None:  # fmt: skip
    """Compare policies on several chains; print, log and write the figures. ``given``: options that do not fit."""
    from pipelines.reports import chain_tables, terminal
    from pipelines.stages.chains_compare import compare as run

    others = [k for k, v in given.items() if v is not None]
    if others:
        raise ConfigError(f"{', '.join(others)}: not of a comparison on several chains; leave out with --chains")
    with terminal.progress() as bar:
        found = run(project, chains, span, portfolios, bar)
    chain_tables.comparison(found)
    if track:
        from pipelines.experiments.chain_runs import log_chains

        with terminal.progress() as bar:
            typer.echo(f"comparison {log_chains(project, found, bar)} is in MLflow (kind = chains)")
    write_json(json, found)


def _compare_hedges(
    project: VaultSettings, book: Path, start: str | None, end: str | None, artifacts: Path | None, json: str | None,
    track: bool,
) -> None:  # fmt: skip
    """Compare hedge rules and write their frontier to ``artifacts``."""
    from pipelines.reports import hedge_tables, terminal
    from pipelines.stages.hedge_compare import compare_hedges

    with terminal.progress() as bar:
        found = compare_hedges(project, book, start, end, bar)
    hedge_tables.comparison(found)
    if track:
        from pipelines.experiments.hedge_runs import log_hedges

        with terminal.progress() as bar:
            typer.echo(f"comparison {log_hedges(project, found, bar)} is in MLflow (kind = hedge)")
    if artifacts is not None:
        from pipelines.reports.hedge_charts import write_frontier

        typer.echo(f"frontier: {write_frontier(found, artifacts)}")
    write_json(json, found)


def thresholds(
    plot: Annotated[
        Path | None, typer.Option(help="Write the plot of cost against band width to this PNG (default: not drawn).")
    ] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Show where the marginal benefit of a tighter band meets its marginal cost, for the portfolio."""
    from pipelines.deployments import deployment as called
    from pipelines.reports import threshold_tables
    from pipelines.settings import load
    from pipelines.stages.thresholds import thresholds as run

    result = run(called(load(config)), plot)
    threshold_tables.thresholds(result)
    write_json(json, result)


def rebalance(
    live: Annotated[bool, typer.Option("--live", help="Execute the printed plan.")] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="A past moment (UTC), for the simulated vault only (default: now).")
    ] = None,
    propose: Annotated[
        bool,
        typer.Option("--propose", help="Lay the plan before a Safe's owners, or look up the last one; see --live."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="With --propose: write the batch for Safe{Wallet} here (default: not written)."
        ),
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Run one decision cycle against the configured vault; prints the plan, --live executes it.

    With --propose the owners of a Safe sign it: the first run lays the plan before them, later ones say how many have
    signed, send it when they are enough (--live, which pays the gas), or void it with the reason.
    """
    from pipelines.reports import terminal, transfer_tables
    from pipelines.settings import load
    from pipelines.stages.rebalance import propose as run_proposal
    from pipelines.stages.rebalance import rebalance as run

    if propose and as_of is not None:
        raise ConfigError("--as-of replays history; a proposal is of the present")
    if out is not None and not propose:
        raise ConfigError("--out is where --propose writes the batch")
    if propose:
        result = run_proposal(load(config), live=live, out=out, on_plan=terminal.plan, name=deployment)
    else:
        result = run(load(config), live=live, as_of=as_of, on_plan=terminal.plan, name=deployment)
    for part in result.get("parts", {"": result}).values():
        terminal.settlement(part)
    transfer_tables.whole(result)
    write_json(json, result)
    if result["outcome"] == "failed":
        raise typer.Exit(1)


def explain(
    decision_id: Annotated[str, typer.Argument(help="As printed by rebalance and in the audit record.")],
    config: Config = None,
    json: Json = None,
) -> None:
    """Say in words and numbers why a decision was taken."""
    from pipelines.reports import terminal
    from pipelines.settings import load
    from pipelines.stages.rebalance import explain as run

    result = run(load(config), decision_id)
    terminal.explanation(result)
    write_json(json, result)


def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="comparison_id or MLflow run id of a comparison.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the page (default: ./report-<id>.html).")] = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Rebuild the self-contained HTML report of a comparison."""
    from pipelines.settings import load
    from pipelines.stages.compare import rebuild_report

    page = rebuild_report(load(config), run_id, out)
    typer.echo(f"report: {page}")
    write_json(json, {"report": str(page)})


@audit_app.command()
def verify(
    since: Annotated[
        int,
        typer.Option(
            "--from-plan", min=0, help="First plan number (nonce) of this record; earlier plans were others'."
        ),
    ] = 0,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Check the hash chain of the audit record, and that the vault's own events agree with it; exit 1 otherwise."""
    from pipelines.deployments import chosen
    from pipelines.reports import terminal
    from pipelines.settings import load
    from pipelines.settlements.audited import verify_all

    result = verify_all(chosen(load(config), deployment), since)
    terminal.audit(result)
    write_json(json, result)
    if not result["ok"]:
        raise typer.Exit(1)


@audit_app.command("replay")
def replay_(
    decision_id: Annotated[
        str | None, typer.Argument(help="As printed by rebalance (default: every decision).")
    ] = None,
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Take recorded decisions again from their records alone; exit 1 where one comes out different."""
    from pipelines.deployments import chosen
    from pipelines.reports import terminal
    from pipelines.settings import load
    from pipelines.stages.rebalance import audit_replay

    result = audit_replay(chosen(load(config), deployment), decision_id)
    terminal.replayed(result)
    write_json(json, result)
    if result["same"] != result["of"]:
        raise typer.Exit(1)


@audit_app.command()
def anchor(deployment: Deployment = None, config: Config = None, json: Json = None) -> None:
    """Let the record's head travel in the next plan's hash, which binds all of it to the chain; costs 512 gas."""
    from pipelines.deployments import chosen
    from pipelines.reports import mandate_tables
    from pipelines.settings import load
    from pipelines.settlements.audited import audit_anchor

    result = [audit_anchor(one) for one in chosen(load(config), deployment)]
    for one in result:
        mandate_tables.anchored(one)
    write_json(json, {"deployments": result})


@audit_app.command()
def repair(deployment: Deployment = None, config: Config = None, json: Json = None) -> None:
    """Mend audit record and journal after damage on the disk: restore what the hashes prove, name what is lost."""
    from pipelines.deployments import chosen
    from pipelines.settings import load
    from pipelines.settlements.audited import audit_repair

    lines: dict[str, list[str]] = {}
    for one in chosen(load(config), deployment):
        lines[one.name] = audit_repair(one)
        typer.echo("\n".join(lines[one.name]))
    write_json(json, lines)


@audit_app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    deployment: Deployment = None,
    config: Config = None,
    json: Json = None,
) -> None:
    """Export the audit record as Parquet."""
    from pipelines.deployments import deployment as called
    from pipelines.settings import load
    from pipelines.settlements.audited import audit_export

    records = audit_export(called(load(config), deployment), out)
    typer.echo(f"{records} records in {out}")
    write_json(json, {"records": records, "wrote": str(out)})

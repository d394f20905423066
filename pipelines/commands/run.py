"""Verbs that run a whole market: demo, localnet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Config, Json, Start, write_json


def register(app: typer.Typer) -> None:
    """Add this file's verbs to ``app``."""
    app.command("demo", rich_help_panel="Start here")(demo)
    app.command("localnet", rich_help_panel="Operate")(localnet)


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its files.")] = Path(".foredrift/demo"),
    portfolios: Annotated[int, typer.Option(min=1, help="Number of portfolios in the panel.")] = 16,
    chain: Annotated[bool, typer.Option("--chain/--no-chain", help="End with a rebalance on a local chain.")] = True,
    json: Json = None,
) -> None:
    """Run the whole loop on the built-in sample market, ending in the comparison and one rebalance."""
    from pipelines.demo.demo import demo as run

    write_json(json, run(folder, portfolios=portfolios, chain=chain))


def localnet(
    recording: Annotated[
        Path | None,
        typer.Argument(
            help="With --replay: recorded blocks (number, ts, base_fee_wei, gas_used, gas_limit), Parquet or CSV "
            "(default: the lake's bars).",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; the websocket takes the next one.")] = 8545,
    start: Start = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Each block is the next one of the file, or takes the lake's next bar.")
    ] = False,
    speed: Annotated[float, typer.Option(min=0.01, help="Number of times faster than the blocks were recorded.")] = 1.0,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between blocks.")] = 2.0,
    keystore: Annotated[
        Path | None, typer.Option(help="Also write the keeper's development key here (default: not written).")
    ] = None,
    hedge: Annotated[bool, typer.Option("--hedge", help="With a book of options and a hedge account for it.")] = False,
    owner_keystore: Annotated[
        Path | None,
        typer.Option(help="Also write the development key of the Safe's owner here (default: not written)."),
    ] = None,
    chains: Annotated[
        int, typer.Option(min=1, max=2, help="Number of chains; 2: a vault of one owner on each, CCTP between them.")
    ] = 1,
    config: Config = None,
    json: Json = None,
) -> None:
    """Start the local market: chain, pools, feeds, vault, Safe, arbitrageur and a sandwich searcher.

    It opens at the lake's newest prices, or at --start; without a lake at round prices, now. --chains 2 starts two
    chains in place of it, the second two ports on, and their bridge's attestation service after them.
    """
    from pipelines.demo.localnet import Serving, serve
    from pipelines.settings import load

    if chains == 2:
        from pipelines.demo.localnet import write_key
        from pipelines.demo.localnet_pair import refuse_extras, serve_pair
        from policy.localnet.serve import Running

        refuse_extras(replay=replay, hedge=hedge, start=start, owner_keystore=owner_keystore)
        if keystore is not None:
            write_key(keystore, "keeper")
        typer.echo(f"{serve_pair(Running(port, every))} blocks made on each chain")
        return

    how = Serving(port, every, start, replay, recording, speed, keystore, owner_keystore, hedge)
    made = serve(load(config, required=False), how)
    typer.echo(f"{made} blocks made")
    write_json(json, {"blocks": made})

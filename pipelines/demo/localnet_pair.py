"""``foredrift localnet --chains 2``: two local chains with a vault of one owner on each and CCTP between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import typer

from lake.errors import ConfigError
from policy.execution.bridges.base import PortRoute
from policy.localnet.accounts import dev_accounts
from policy.localnet.across import ACROSS_ROUTE, POOL, SISTER_POOL
from policy.localnet.attestation_server import serve_attester, serve_quotes
from policy.localnet.bridges import CCTP_ROUTE, MESSENGER
from policy.localnet.chain_pair import ChainPair, pair
from policy.localnet.layerzero import LZ_OFT, OFT_ROUTE
from policy.localnet.relayer import Relayer
from policy.localnet.serve import Running

STEP = 2
"""Ports between the chains: each has its websocket beside it."""


def serve_pair(how: Running, stop: threading.Event | None = None, say: Callable[[str], None] = typer.echo) -> int:
    """Serve both chains on 127.0.0.1 until interrupted or ``stop`` is set; return the blocks made on each.

    The first listens on ``how.port``, the second two ports on, then the attestation service and Across' quotes. What
    leaves a vault is vouched for once it is final, and delivered, filled or paid back by others: here by the relayer.
    """
    halt, blocks = stop or threading.Event(), 0
    ports = (how.port, how.port + STEP) if how.port else (0, 0)
    with ExitStack() as held:
        made = held.enter_context(pair(ports=ports, cache=how.cache))
        url = held.enter_context(serve_attester(made.attester, how.port + 2 * STEP if how.port else 0))
        quotes = held.enter_context(serve_quotes(made.quotes, how.port + 2 * STEP + 1 if how.port else 0))
        services = [f"attestation service of both {url}", f"Across' quote service of both {quotes}"]
        for line in [*described(made), *services]:
            say(line)
        relayer = Relayer(made)
        try:
            while not halt.wait(how.every_s):
                made.mine()
                blocks += 1
                for words in relayer.step():
                    say(words)
        except KeyboardInterrupt:
            say("stopped")
    return blocks


def described(made: ChainPair) -> list[str]:
    """Return what a person needs to use both chains, a line each; no keys."""
    lines = []
    for side, net in enumerate(made.nets):
        vault = made.vault(side)
        cash = net.world.token("USDC").address
        lines += [f"local chain {net.chain_id} on {net.url}", f"  vault {vault.address}", f"  USDC  {cash}"]
        found = net.world.extras
        contracts = {
            CCTP_ROUTE: f"messenger {found[MESSENGER]}",
            ACROSS_ROUTE: f"contract {found[POOL]}, contract_there {found[SISTER_POOL]}",
            OFT_ROUTE: f"contract {found[LZ_OFT]}",
        }
        for route, contract in contracts.items():
            row = vault.port_route(route)
            if isinstance(row, PortRoute):
                lines.append(f"  route {route}: {row.kind} to our vault {row.recipient} on chain {row.destination}")
                lines.append(f"    {contract}")
    who = dev_accounts()
    lines.append(f"keeper of both {who['keeper'].address}, beneficiary of both {who['investor'].address}")
    return lines


def refuse_extras(*, replay: bool, hedge: bool, start: str | None, owner_keystore: Path | None) -> None:
    """Raise ConfigError on options that belong to the market of one chain."""
    given = [
        ("--replay", replay),
        ("--hedge", hedge),
        ("--start", start),
        ("--owner-keystore", owner_keystore is not None),
    ]
    wrong = [name for name, on in given if on]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)} is of the market of one chain; leave it out with --chains 2")

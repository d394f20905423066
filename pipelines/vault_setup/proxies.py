"""Whose code the contracts of a vault ran when they were first looked at: a small file beside its journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from eth_utils.address import to_checksum_address

from lake.errors import ConfigError, RpcError
from lake.private import private_folder
from lake.rpc import Rpc
from pipelines.vault_settings import VaultSettings
from policy.execution.base import Snapshot, Verdict
from policy.execution.checks.verdicts import passed
from policy.execution.probes.proxies import ProxyCandidate, codes, judged
from policy.execution.records.hashlog import write_whole

SAFES = ("safe", "lagoon")
"""Kinds of vault whose address is a Safe's."""


def proxies_file(deployment: VaultSettings) -> Path:
    """Return where the code of ``deployment``'s contracts is remembered."""
    return deployment.journal.with_name(deployment.journal.name + ".proxies.json")


def watched(deployment: VaultSettings, snapshot: Snapshot) -> list[ProxyCandidate]:
    """Return what the vault rests on: itself, its tokens, and the routers that it trades by."""
    account = str(to_checksum_address(str(deployment.vault.address)))
    found = {account: ProxyCandidate("the vault", account, safe=deployment.vault.kind in SAFES)}
    for place, token in enumerate(snapshot.tokens):
        address = str(to_checksum_address(token.address))
        found.setdefault(address, ProxyCandidate(token.symbol, address, token=place > 0))
    for row in deployment.sources.pools:
        if row.router:
            address = str(to_checksum_address(row.router))
            found.setdefault(address, ProxyCandidate(f"the router of {row.venue}", address))
    return list(found.values())


def look(deployment: VaultSettings, rpc: Rpc, snapshot: Snapshot) -> tuple[Verdict, ...]:
    """Return the refusals of contracts that run other code than at the first look, and remember what is new.

    A node that does not show storage is said and stops nothing.
    """
    path, them = proxies_file(deployment), watched(deployment, snapshot)
    seen = _seen(path)
    try:
        now = codes(rpc, them)
    except RpcError as error:
        return (passed("proxies_unread", f"whether a contract runs other code than before is not known: {error}"),)
    if now.keys() - seen.keys():
        private_folder(path.parent)
        write_whole(path, json.dumps({**now, **seen}, indent=1).encode())
    return tuple(judged(them, seen, now, f"to believe it, move {path} aside"))


def _seen(path: Path) -> Mapping[str, str]:
    try:
        return {str(k): str(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise ConfigError(
            f"{path} names no code ({error!r}); move it aside: the next run believes what it sees"
        ) from None

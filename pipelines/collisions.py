"""What two deployments of one project must not share: names, vaults, keys on one chain, files. Checked at load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.sections import ChainSection, VaultSection

SERVED = "foredrift"  # name of the first deployment's scheduled runs

Member = tuple[str, ChainSection, VaultSection]
"""(name, chain, vault) of a deployment."""


def collision(members: Sequence[Member], root: Path) -> str:
    """Return why the deployments cannot stand beside each other, empty else nothing; paths are taken from ``root``."""
    names = [name.lower() for name, _, _ in members]
    twice = [name for name, _, _ in members if names.count(name.lower()) > 1]
    if twice:
        return f"two deployments are called {twice[0]} (the one of [vault] bears the name of [portfolio]); rename one"
    if SERVED in names[1:]:
        return f"no further deployment can be called {SERVED}: the first one's scheduled runs are; rename it"
    taken: dict[tuple[str, ...], str] = {}
    for name, chain, vault in members:
        for thing, words, remedy in _things(chain, vault, root):
            holder = taken.setdefault(thing, name)
            if holder != name:
                return f"deployments {holder} and {name} share {words}: {remedy}"
    return ""


def _things(chain: ChainSection, vault: VaultSection, root: Path) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield (identity, words, remedy) of everything that is the deployment's alone."""
    files = {"journal": vault.journal, "audit": vault.audit}
    if vault.kind == "simulated":
        files["state"] = vault.state
    for key, relative in files.items():
        path = (root / relative).resolve()
        yield ("file", str(path)), f"the file {path}", f"give each its own [vault] {key}, or none"
    if vault.kind == "simulated":
        return
    if vault.address:
        yield (
            ("vault", str(chain.id), vault.address.lower()), f"vault {vault.address} on chain {chain.id}",
            "two plans could be in flight in it",
        )  # fmt: skip
    keys = {"keeper": vault.keeper and vault.keeper.lower(), "keystore": vault.keystore}
    for key, value in keys.items():
        if value:
            yield (
                (key, str(chain.id), value),
                f"{key} {value} on chain {chain.id}",
                "its transactions would replace each other",
            )

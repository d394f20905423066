"""``foredrift keys``: the project's encrypted keystores, made and shown; no key leaves its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from pipelines.deploy_section import DeploySection
from pipelines.vault_settings import VaultSettings
from policy.execution.submission.signer import create_keystore, keystore_address

Shown = list[dict[str, Any]]
ROLES = ("keeper", "owner", "guardian")


def files_of(deployment: VaultSettings, given: DeploySection) -> dict[str, Path]:
    """Return the keystore of each role that the settings name, in the order of ROLES."""
    named = {"keeper": deployment.vault.keystore, "owner": given.owner, "guardian": given.guardian}
    return {role: deployment.path(path) for role, path in named.items() if path is not None}


def new(
    deployment: VaultSettings, given: DeploySection, phrase_of: Callable[[], str], role: str | None = None
) -> Shown:
    """Make the keystores that are missing (of ``role`` alone, where given) and return all; an existing one stays.

    ``phrase_of`` is asked once, and only if something is made. Raises ConfigError where the settings name no keystore.
    """
    files = _chosen(deployment, given, role)
    missing = [path for path in files.values() if not path.exists()]
    phrase = phrase_of() if missing else ""
    made = {path: create_keystore(path, phrase) for path in missing}
    return [row | {"made": Path(row["file"]) in made} for row in _rows(files)]


def show(deployment: VaultSettings, given: DeploySection, role: str | None = None) -> Shown:
    """Return whose keys the keystores hold: {role, file, address}; an absent file has no address."""
    return _rows(_chosen(deployment, given, role))


def _chosen(deployment: VaultSettings, given: DeploySection, role: str | None) -> dict[str, Path]:
    files = files_of(deployment, given)
    if role is not None and role not in files:
        known = ", ".join(files) or "none"
        raise ConfigError(f"the settings name no keystore of a {role} (they name: {known}); see [vault] and [deploy]")
    if not files:
        raise ConfigError("the settings name no keystore: set [vault] keystore, and owner and guardian in [deploy]")
    return files if role is None else {role: files[role]}


def _rows(files: dict[str, Path]) -> Shown:
    return [
        {"role": role, "file": str(path), "address": keystore_address(path) if path.exists() else None}
        for role, path in files.items()
    ]

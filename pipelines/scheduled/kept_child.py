"""The process that ``foredrift serve`` starts to keep vaults: ``foredrift keep`` of the deployments it is given.

It executes where the settings say that scheduled runs do, and ends between two blocks when the process that started it
is gone: its standard input is a pipe that nobody else holds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lake.errors import ConfigError, ForedriftError
from pipelines.deployments import Deployment, deployments
from pipelines.monitor.logs import configure_logging, log
from pipelines.scheduled.keep_vaults import KeepChoice, keep_vaults
from pipelines.servers.subprocesses import end_with_parent
from pipelines.settings import load
from pipelines.vault_setup.transfer_fleet import leader


def executes(kept: Sequence[Deployment]) -> bool:
    """Return whether a keeper of ``kept`` sends transactions; ConfigError where the settings differ between them.

    Of a portfolio over several chains they are all its vaults.
    """
    found = {d.live and d.vault.kind != "simulated" for d in kept}
    if len(found) != 1:
        raise ConfigError(
            f"{', '.join(d.name for d in kept)}: live for some of them only; one keeper is one or the other"
        )
    return found.pop()


def main(names: Sequence[str]) -> int:
    """Keep the deployments ``names`` of the project of FOREDRIFT_CONFIG until told to end; return an exit code."""
    try:
        settings = load(Path(os.environ["FOREDRIFT_CONFIG"]))
        configure_logging(settings.watch.log)
        project = deployments(settings)
        kept = [d for d in project if d.name in names]
        missing = sorted(set(names) - {d.name for d in kept})
        if missing:
            raise ConfigError(f"there is no deployment {', '.join(missing)} any more: start foredrift serve again")
        served = [d for d in project if leader(project, d) in kept]
        keep_vaults(kept, settings.keep, KeepChoice(live=executes(served)), project)
    except ForedriftError as error:
        log("keeper", vaults=", ".join(names), error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1:]))

"""The portfolio page of a project's vaults, for ``foredrift serve`` and ``foredrift portfolio --serve``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipelines.deployments import Deployment
from pipelines.scheduled.page import page_port
from pipelines.sections import PageSection
from pipelines.stages.portfolio import portfolio
from pipelines.stages.rebalance import explained
from pipelines.wiring import now


@contextmanager
def serving(vaults: Sequence[Deployment], given: PageSection, stale_after: str) -> Iterator[str]:
    """Serve the page of ``vaults`` as [page] says while the block lasts; yield its address."""

    def look(one: Deployment) -> Mapping[str, Any]:
        return portfolio(one, now(), stale_after)

    token = None if given.token_file is None else vaults[0].path(given.token_file)
    with page_port(
        {v.name: partial(look, v) for v in vaults}, partial(explained, vaults), (given.bind, given.port), token
    ) as address:
        yield address

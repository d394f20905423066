"""What a test needs and a machine may lack: skipped with the reason, but never where continuous integration runs.

A machine without Node.js would pass the suite without one test of the money path on a chain, and nobody would see it.
With ``CI=true`` in the environment, as such services set it, what is missing fails the test.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

CI = "CI"


def missing(reason: str) -> NoReturn:
    """Skip the test for ``reason``; fail it where CI says that everything is there."""
    if os.environ.get(CI, "").lower() in {"true", "1"}:
        pytest.fail(f"{reason} ({CI} is set: this test must run)", pytrace=False)
    pytest.skip(reason)


def need_node() -> None:
    """Miss what the local chain is made of where Node.js or its packages are not there."""
    from policy.localnet.packages import NoNode, modules

    try:
        modules()
    except NoNode as reason:
        missing(str(reason))

"""What is missing skips a test with its reason, and fails it where continuous integration says that it is there."""

from __future__ import annotations

import pytest

from policy.localnet import packages
from tests import needs

EVERYTHING = BaseException  # what pytest raises for a skip is no Exception


@pytest.mark.parametrize(("ci", "kind"), [("true", "Failed"), ("1", "Failed"), ("", "Skipped"), ("false", "Skipped")])
def test_a_missing_node_skips_at_home_and_fails_in_continuous_integration(monkeypatch, ci, kind):
    def gone():
        raise packages.NoNode("Node.js is not here")

    monkeypatch.setattr(packages, "modules", gone)
    monkeypatch.setenv(needs.CI, ci)
    with pytest.raises(EVERYTHING, match=r"Node\.js is not here") as raised:
        needs.need_node()
    assert type(raised.value).__name__ == kind


def test_what_is_there_is_no_reason(monkeypatch):
    monkeypatch.setattr(packages, "modules", lambda: None)
    monkeypatch.setenv(needs.CI, "true")
    assert needs.need_node() is None

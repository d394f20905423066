"""An audit that could not look is never taken for a clean one."""

from __future__ import annotations

import pytest

from tests.audit_run import CLEAN, FOUND, NOT_CHECKED, Outcome, exit_code, judge, run


@pytest.mark.parametrize(
    ("code", "said", "verdict"),
    [
        (0, "No known vulnerabilities found", CLEAN),
        (1, "ERROR: x: Dependency not found on PyPI and could not be audited: x (1)", NOT_CHECKED),
        (1, "npm error audit endpoint returned an error", NOT_CHECKED),
        (1, "Found 1 known vulnerability in 1 package\nflask 0.5 PYSEC-2019-179 1.0", FOUND),
        (1, "", FOUND),
    ],
)
def test_what_a_tool_says_is_told_apart(code, said, verdict):
    assert judge("part", code, said).verdict == verdict


def test_a_missing_tool_did_not_check():
    assert run("part", ["/no/such/tool"]).verdict == NOT_CHECKED


def test_only_clean_parts_make_a_clean_audit():
    clean, found, blind = (Outcome("part", v) for v in (CLEAN, FOUND, NOT_CHECKED))
    assert exit_code([clean, clean]) == 0
    assert exit_code([clean, blind]) == 3
    assert exit_code([blind, found]) == 1

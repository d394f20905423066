"""The shape of the code is counted, not judged by eye: circles, sizes, names. The limits only ever fall."""

from __future__ import annotations

import pytest

from tests.house import counts

LEAST_TESTS = 0.8  # test lines per line of code
WIDE, LONG_FILES, TAKERS = 0, 0, 25
"""What is left: functions with more than eight arguments, files over 400 lines, functions that take all Settings."""


@pytest.fixture(scope="module")
def found():
    return counts.modules()


def test_no_public_class_name_means_two_things(found):
    assert counts.classes_twice(found) == []


def test_no_function_is_longer_than_eighty_lines(found):
    assert counts.long_functions(found) == []


def test_what_is_left_only_falls(found):
    assert len(counts.wide_functions(found)) <= WIDE, counts.wide_functions(found)
    assert len(counts.long_files(found)) <= LONG_FILES, counts.long_files(found)
    assert len(counts.settings_takers(found)) <= TAKERS


def test_tests_keep_up_with_the_code(found):
    assert counts.test_share(found) >= LEAST_TESTS


def test_circles_are_found():
    """The count itself is tested: an import inside a function closes a circle too."""
    import ast

    texts = {"a": "import b", "b": "def f():\n    from c import x", "c": "import a", "d": "import a"}
    made = [counts.Module(f"{n}.py", n, 1, ast.parse(t)) for n, t in texts.items()]
    assert counts.circles(made) == ["a <-> b <-> c"]


@pytest.mark.parametrize("package", ["lake", "features", "models", "policy", "foredrift"])
def test_no_circle_inside(found, package):
    inside = [m for m in found if m.name.split(".")[0] == package]
    assert counts.circles(inside) == []

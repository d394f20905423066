"""The tree of errors that lake/errors.py draws is the one the code has."""

from __future__ import annotations

import ast

import lake.errors
from tests.house.counts import modules


def test_every_error_of_the_code_is_in_the_tree_and_in_the_drawing() -> None:
    bases = {
        node.name: [ast.unparse(b) for b in node.bases]
        for m in modules()
        for node in ast.walk(m.tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    errors = {"ForedriftError"}
    while more := {name for name, above in bases.items() if errors & set(above)} - errors:
        errors |= more
    drawn = lake.errors.__doc__ or ""
    assert sorted(e for e in errors if f" {e}" not in drawn) == []
    outside = {n for n, above in bases.items() if {"Exception", "RuntimeError", "ImportError"} & set(above)} - errors
    assert outside == {"ForeignPackageError", "Unreachable"}  # the transport's own, turned into RpcError by lake.rpc

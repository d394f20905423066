"""The committed artefacts are what the sources compile to, and running needs no compiler."""

from __future__ import annotations

import json
import sys

import pytest

from lake.errors import ExecutionError
from policy.execution.contracts import compile as compiling
from policy.execution.contracts.compile import COMMITTED, DEPLOYABLE, contract, source_digest, to_json


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_committed_artefacts_belong_to_their_sources(name: str):
    raw = json.loads((COMMITTED / f"{name}.json").read_text())
    assert raw["digest"] == source_digest(name), "run policy.execution.contracts.compile.commit_artefacts()"
    assert raw["size"] <= compiling.SIZE_LIMIT


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n == "foredrift_vault" else ()) for n in DEPLOYABLE]
)
def test_a_fresh_compile_gives_the_committed_artefact(name: str):
    pytest.importorskip("vyper", reason="the compiler is the extra foredrift[chain]")
    assert to_json(compiling.compile_source(name)) == (COMMITTED / f"{name}.json").read_text()


def test_without_the_compiler_committed_artefacts_serve_and_changed_sources_say_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "vyper", None)
    contract.cache_clear()
    assert contract("mock_router", tmp_path).bytecode
    sources = tmp_path / "contracts"
    sources.mkdir()
    (sources / "mock_router.vy").write_text("# another text\n")
    monkeypatch.setattr(compiling, "CONTRACTS", sources)
    contract.cache_clear()
    with pytest.raises(ExecutionError, match=r"foredrift\[chain\]"):
        contract("mock_router", tmp_path)
    with pytest.raises(ExecutionError, match="no contract 'nothing'"):
        contract("nothing", tmp_path)
    contract.cache_clear()


def test_a_changed_source_is_compiled_once_and_cached(monkeypatch: pytest.MonkeyPatch, tmp_path):
    pytest.importorskip("vyper", reason="the compiler is the extra foredrift[chain]")
    sources = tmp_path / "contracts"
    sources.mkdir()
    (sources / "part.vy").write_text("@internal\n@pure\ndef _two() -> uint256:\n    return 2\n")
    text = "import part\n\n@external\n@pure\ndef answer() -> uint256:\n    return part._two()\n"
    (sources / "probe.vy").write_text(text)
    monkeypatch.setattr(compiling, "CONTRACTS", sources)
    contract.cache_clear()
    first = contract("probe", tmp_path / "cache")
    monkeypatch.setattr(compiling, "compile_source", lambda _: pytest.fail("compiled twice"))
    contract.cache_clear()
    assert contract("probe", tmp_path / "cache") == first
    before = source_digest("probe")
    (sources / "part.vy").write_text("@internal\n@pure\ndef _two() -> uint256:\n    return 3\n")
    assert source_digest("probe") != before  # an imported module counts
    contract.cache_clear()

"""What a block explorer needs to verify a contract: Vyper's standard JSON input, from the sources as shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policy.execution.contracts.compile import COMPILER, sources_of


def standard_input(name: str) -> dict[str, Any]:
    """Return the standard JSON input of ``contracts/<name>.vy``: every source it imports, and the compiler's settings.

    Optimisation and EVM version stand in the sources' own pragmas; the explorer is told the compiler's version
    (``vyper:{COMPILER}``) and the constructor's arguments beside this file.
    """
    sources = {file: {"content": text} for file, text in sorted(sources_of(name).items())}
    return {
        "language": "Vyper",
        "sources": sources,
        "settings": {
            "search_paths": ["."],
            "outputSelection": {f"{name}.vy": ["abi", "evm.bytecode", "evm.deployedBytecode"]},
        },
    }


def write_inputs(folder: Path, made: list[tuple[str, str, bytes]]) -> list[Path]:
    """Write, for each (artefact, address, constructor arguments), its input and how to submit it; return the files.

    ``<artefact>.json`` is the standard JSON input, ``addresses.json`` says compiler, address and arguments of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, index = [], {}
    for name, address, arguments in made:
        files.append(folder / f"{name}.json")
        files[-1].write_text(json.dumps(standard_input(name), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        index[name] = {
            "address": address, "compiler": f"vyper:{COMPILER}", "contract": f"{name}.vy:{name}",
            "constructor_arguments": arguments.hex(), "standard_json_input": files[-1].name,
        }  # fmt: skip
    files.append(folder / "addresses.json")
    files[-1].write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return files

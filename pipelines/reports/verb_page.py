"""docs/verbs.md: every verb of the command line with its options, made from the code itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

HEAD = """# Verbs

Every verb of `foredrift` with its options; made from the code by `make reference`, so do not edit it. Exit codes: 0
done; 1 failed, or what was asked to be proven does not hold; 2 bad usage or configuration; 130 interrupted. The options
`--version`, `--quiet` and `--verbose` stand before the verb. Switches are off unless given.
"""


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of every verb below ``command``; a group that does nothing of its own is none."""
    for name, below in getattr(command, "commands", {}).items():
        if not hasattr(below, "commands") or below.invoke_without_command:
            yield " ".join((*path, name)), below
        yield from verbs(below, (*path, name))


def page(command: Any) -> str:
    """Return docs/verbs.md of the command line ``command``."""
    parts = [HEAD]
    for name, verb in sorted(verbs(command)):
        said = " ".join((verb.help or "").replace("\\[", "[").split())
        parts += [f"\n## foredrift {name}\n\n{_escaped(said)}\n", "| option | what | default |\n|---|---|---|"]
        parts += [
            f"| {_spelled(p)} | {_escaped((p.help or '').replace(chr(92) + '[', '['))} | {_default(p)} |"
            for p in verb.params
            if p.name not in {"help", "config", "json"}
        ]
        shared = [o for o, n in (("`--config FILE`", "config"), ("`--json FILE`", "json")) if n in _names(verb)]
        parts += [f"\nAlso {' and '.join(shared)}."] if shared else []
    return "\n".join(parts) + "\n"


def _names(verb: Any) -> set[str]:
    return {p.name for p in verb.params}


def _spelled(option: Any) -> str:
    return ", ".join(f"`{o}`" for o in (*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    if option.required:
        return "needed"
    if option.default in (None, "", False, ()):
        return ""
    return f"`{option.default}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")

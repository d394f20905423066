"""What the shape of the code is held to, counted from its syntax: ``python -m tests.house.counts`` prints the table."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("foredrift", "lake", "features", "models", "policy", "pipelines")
LONGEST_FILE, LONGEST_FUNCTION, MOST_ARGUMENTS, MOST_SETTINGS = 400, 80, 8, 25
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file: its path from the root, its dotted name, its lines and its syntax tree."""

    path: str
    name: str
    lines: int
    tree: ast.Module


def modules() -> list[Module]:
    """Return the modules of all packages."""
    out = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" in file.parts:
                continue
            text = file.read_text(encoding="utf-8")
            path = file.relative_to(ROOT)
            name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            out.append(Module(str(path), name, text.count("\n"), ast.parse(text)))
    return out


def functions(module: Module) -> Iterator[Function]:
    """Yield every function and method of a module."""
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            yield node


def kernel(function: Function) -> bool:
    """Return whether numba compiles the function: its arguments are scalars and arrays, records are unknown to it."""
    return any("njit" in ast.unparse(d) or "kernel" in ast.unparse(d) for d in function.decorator_list)


def option_list(function: Function) -> bool:
    """Return whether the arguments are the options of a verb, which the command line reads from the signature."""
    return any("typer." in ast.unparse(a.annotation) for a in function.args.args if a.annotation)


def arguments(function: Function) -> int:
    """Return how many arguments a caller can give, ``self`` and ``cls`` apart."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def long_files(found: list[Module]) -> list[str]:
    return [f"{m.path}: {m.lines} lines" for m in found if m.lines > LONGEST_FILE]


def long_functions(found: list[Module]) -> list[str]:
    return [
        f"{m.path}:{f.lineno} {f.name}: {length} lines"
        for m in found
        for f in functions(m)
        if (length := lines_of(f)) > LONGEST_FUNCTION
    ]


def lines_of(function: Function) -> int:
    """Return the lines of a function; of a numba kernel those of its body, for its signature is a table of arrays."""
    first = function.body[0].lineno if kernel(function) else function.lineno
    return (function.end_lineno or first) - first + 1


def wide_functions(found: list[Module]) -> list[str]:
    return [
        f"{m.path}:{f.lineno} {f.name}: {arguments(f)} arguments"
        for m in found
        for f in functions(m)
        if arguments(f) > MOST_ARGUMENTS and not kernel(f) and not option_list(f)
    ]


def classes_twice(found: list[Module]) -> list[str]:
    """Return public class names, type aliases apart, that mean two things."""
    places: dict[str, list[str]] = defaultdict(list)
    for m in found:
        for node in ast.walk(m.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(m.path)
    return [f"{name}: {', '.join(where)}" for name, where in sorted(places.items()) if len(where) > 1]


def settings_takers(found: list[Module]) -> list[str]:
    """Return the functions that take the whole Settings."""
    return [
        f"{m.path}:{f.lineno} {f.name}"
        for m in found
        for f in functions(m)
        if any(a.annotation is not None and ast.unparse(a.annotation) == "Settings" for a in f.args.args)
    ]


def imports(module: Module, names: set[str]) -> set[str]:
    """Return the modules among ``names`` that ``module`` imports, inside functions and for type checks too."""
    out = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names} & names
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for a in node.names:
                whole = f"{node.module}.{a.name}"
                out |= {whole if whole in names else node.module} & names
    return out - {module.name}


def circles(found: list[Module]) -> list[str]:
    """Return groups of modules that import each other in a circle, imports inside functions included."""
    names = {m.name for m in found}
    edges = {m.name: imports(m, names) for m in found}
    order: list[str] = []
    seen: set[str] = set()
    for start in edges:
        stack = [(start, iter(sorted(edges[start])))] if start not in seen else []
        seen.add(start)
        while stack:
            node, below = stack[-1]
            child = next((c for c in below if c not in seen), None)
            if child is None:
                order.append(node)
                stack.pop()
            else:
                seen.add(child)
                stack.append((child, iter(sorted(edges[child]))))
    back: dict[str, set[str]] = defaultdict(set)
    for a, bs in edges.items():
        for b in bs:
            back[b].add(a)
    out, done = [], set()
    for start in reversed(order):
        group, stack2 = [], [start]
        while stack2:
            node = stack2.pop()
            if node not in done:
                done.add(node)
                group.append(node)
                stack2 += back[node]
        if len(group) > 1:
            out.append(" <-> ".join(sorted(group)))
    return out


def test_share(found: list[Module]) -> float:
    """Return test lines per line of code."""
    tests = sum(f.read_text(encoding="utf-8").count("\n") for f in (ROOT / "tests").rglob("*.py"))
    return tests / sum(m.lines for m in found)


CHECKS = {
    "import circles": circles,
    f"files over {LONGEST_FILE} lines": long_files,
    f"functions over {LONGEST_FUNCTION} lines": long_functions,
    f"functions with more than {MOST_ARGUMENTS} arguments": wide_functions,
    "class names with two meanings": classes_twice,
}

if __name__ == "__main__":
    everything = modules()
    for what, check in CHECKS.items():
        rows = check(everything)
        print(f"{len(rows):4d} {what}")
        for row in rows:
            print(f"     {row}")
    takers = settings_takers(everything)
    print(f"{len(takers):4d} functions take the whole Settings (at most {MOST_SETTINGS})")
    print(f"{test_share(everything):4.2f} test lines per line of code")

"""Hostile names in settings and reports, nodes that lie, secrets in addresses, open ports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lake.errors import ForedriftError
from lake.rpc import FakeTransport, Rpc, mask
from tests.attacks.outcome import Attack, Outcome

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
MARKS = ("<script>alert(1)", "<img src=x onerror")


def poisoned(value: Any) -> Any:
    """Return ``value`` with markup in everything that is a name."""
    if isinstance(value, dict):
        return {
            k: EVIL + v if k in {"key", "target", "model"} and isinstance(v, str) else poisoned(v)
            for k, v in value.items()
        }
    return [poisoned(v) for v in value] if isinstance(value, list) else value


def in_report(_folder: Path) -> Outcome:
    """Markup in assets, keys, targets, lineage and the name of the comparison."""
    from pipelines.reports import page
    from tests.pipelines import fake_comparison as made

    data = poisoned(made.data())
    data["data"]["assets"] = [EVIL, "ETH"]
    timeline = made.timeline()
    first = next(c for c in timeline.columns if c.startswith("w_"))
    text = page.render(data, "c" + EVIL, {"k" + EVIL: "v" + EVIL}, timeline.rename({first: "w_" + EVIL}))
    raw, there = sum(text.count(m) for m in MARKS), text.count("alert(1)")
    return Outcome(raw == 0 and there > 0, f"{raw} raw, {there} escaped")


def in_settings(folder: Path) -> Outcome:
    """Names with markup and paths that climb in the operator's own file: an error of one line, or no effect."""
    from pipelines.settings import load

    file, quiet = folder / "foredrift.toml", []
    for name in (EVIL, "../../../../etc/x", "BTC\\n[vault]", "[bold]BTC[/bold]"):
        file.write_text(f'[portfolio]\nassets = ["{name}", "ETH"]\n')
        try:
            load(file)
            quiet.append(name)
        except ForedriftError as error:
            if "\n" in str(error):
                return Outcome(held=False, figure=f"{name!r} spreads over lines")
    outside = list(folder.parent.glob("etc*"))
    return Outcome(not outside, f"{len(quiet)} of 4 names taken as the operator's own, nothing written outside")


def in_addresses(_folder: Path) -> Outcome:
    """Keys in the address of a node, in errors, in repr, in masks."""
    key = "SECRETKEY0123456789abcdef"
    urls = [f"https://node.example/v3/{key}", f"https://{key}:{key}@node.example/", f"https://node.example/?k={key}"]
    said = [mask(u) for u in urls]
    for url in urls:
        node = Rpc([url], transport=FakeTransport({"eth_chainId": ValueError("no")}), tries=1, sleep=lambda _: None)
        said.append(repr(node))
        for ask in (lambda n=node: n.expect_chain(1), lambda n=node: n.call("eth_blockNumber")):
            try:
                ask()
            except Exception as error:
                said += [str(error), repr(error)]
    found = [s for s in said if key in s]
    return Outcome(not found, f"{len(found)} of {len(said)} texts show the key")


ATTACKS = [
    Attack("held: report", "markup in every name of a report", "folder", in_report),
    Attack("held: settings", "hostile names in the operator's file", "folder", in_settings),
    Attack("held: node addresses", "keys in addresses, errors, logs", "folder", in_addresses),
]

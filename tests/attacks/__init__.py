"""The money path attacked, attack by attack: what was lost at first, what is lost now. ``make attacks`` prints it."""

from __future__ import annotations

from importlib import import_module

from tests.attacks.outcome import Attack

MODULES = ("flows", "keeper", "griefing", "exits", "signer", "journal", "scheduler", "nodes", "files", "orders")


def families() -> list[Attack]:
    """Return every attack, family by family."""
    return [attack for name in MODULES for attack in import_module(f"tests.attacks.{name}").ATTACKS]

"""The shipped policies, one row each, importable in no time: settings, help texts and reports need traits, not code.

A policy of an installed package carries its traits as attribute ``traits`` of what its entry point names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

Role = Literal["reactive", "predictive", "bound"]
Sort = Literal["idle", "calendar", "threshold", "band", "forecast", "foresight"]


@dataclass(frozen=True, slots=True)
class Traits:
    """What others must know of a policy.

    ``role``: ``reactive`` rules need no forecast, ``predictive`` ones need a reactive fallback, a ``bound`` knows the
    future and so only appears in comparisons. ``sort``: how it decides. ``colour``: of its marks in reports and in
    MLflow, to be told apart from the others on light and on dark ground. ``reads``: forecast targets without which it
    does not decide. ``factory`` (module:function) makes it from a workshop; empty for the rules of
    ``policy.strategies.reactive``. ``pictured``: place in the pictures of a comparison, 0 where it is left out.
    """

    role: Role
    sort: Sort
    colour: str = "#777777"
    reads: tuple[str, ...] = ()
    factory: str = ""
    pictured: int = 0


TRAITS: Mapping[str, Traits] = {
    "hold": Traits("reactive", "idle", "#7c7c7c"),
    "calendar_daily": Traits("reactive", "calendar", "#bb7a94"),
    "calendar_weekly": Traits("reactive", "calendar", "#8a6a4f"),
    "threshold_5pct": Traits("reactive", "threshold", "#8e4fbf"),
    "threshold": Traits("reactive", "threshold", "#a283d0", pictured=4),
    "band": Traits("reactive", "band", "#4f9d4f", pictured=3),
    "gas_band": Traits("reactive", "band", "#008a94", pictured=2),
    "gas_tilt": Traits("reactive", "band", "#3b98cf"),
    "gas_band_exit": Traits("reactive", "band", "#3f6ad8"),
    "predictive": Traits(
        "predictive",
        "forecast",
        "#dc3f56",
        ("gas", "gas_min"),
        "policy.strategies.registry:make_predictive",
        pictured=1,
    ),
    "foresight_gas": Traits(
        "bound", "foresight", "#d07d0c", factory="policy.strategies.foresight:make_foresight_gas", pictured=5
    ),
    "clairvoyant": Traits("bound", "foresight", "#98911a", factory="policy.strategies.foresight:make_clairvoyant"),
}
OTHER = Traits("reactive", "band")
"""Traits of a policy that states none."""

PARTS: Mapping[str, Role] = {name: t.role for name, t in TRAITS.items()}
REACTIVE_NAMES: tuple[str, ...] = tuple(n for n, role in PARTS.items() if role == "reactive")
LIVE_NAMES: tuple[str, ...] = tuple(n for n, role in PARTS.items() if role != "bound")
BOUNDS: tuple[str, ...] = tuple(n for n, role in PARTS.items() if role == "bound")

CLAIMANT, BASELINE, BOUND, IDLE = "predictive", "gas_band", "foresight_gas", "hold"
"""Who is judged, against the rule it starts from, under the bound of perfect foresight, beside doing nothing."""

SIMPLE: tuple[str, ...] = tuple(n for n, t in TRAITS.items() if t.sort == "threshold")
"""``best_threshold`` is the cheaper of these."""

RULES: tuple[str, ...] = tuple(n for n, t in TRAITS.items() if t.role == "reactive" and t.sort in {"threshold", "band"})
"""``best_reactive`` is the cheapest of these that keeps the mandate."""

BANDS: tuple[str, ...] = tuple(n for n, t in TRAITS.items() if t.role == "reactive" and t.sort == "band")
"""``past_best`` is the one of these that was cheapest on mirrored pasts before the comparison."""

HEADLINE: tuple[str, ...] = ("past_best", BASELINE, "best_threshold", "best_reactive")
"""Rivals whose ratios carry the result, the one that counts first."""

PICTURED: tuple[str, ...] = tuple(
    sorted((n for n, t in TRAITS.items() if t.pictured), key=lambda n: TRAITS[n].pictured)
)


@cache
def installed() -> Mapping[str, EntryPoint]:
    """Return the policies of installed packages by name: entry points of the group ``foredrift.policies``.

    Installed packages are looked through once a process.

    Each is a factory ``(history, lake, config) -> BandRule``, with its ``Traits`` as attribute ``traits``.
    """
    return {e.name: e for e in entry_points(group="foredrift.policies")}


def traits(name: str) -> Traits:
    """Return the traits of policy ``name``: of a shipped one, of an installed package's, else OTHER."""
    if name in TRAITS:
        return TRAITS[name]
    own = installed().get(name)
    found = OTHER if own is None else getattr(own.load(), "traits", OTHER)
    return found if isinstance(found, Traits) else OTHER

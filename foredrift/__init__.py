"""Foredrift as a library: the names below, loaded when first used, so that importing the package costs nothing.

>>> import foredrift as fd
>>> "compare" in fd.__all__
True

docs/library.md is the guide. The five packages behind these names have plain names (lake, features, models, policy,
pipelines); ``check_ours`` makes sure that they are this project's and not a folder that happens to lie in the way.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foredrift.compared import Compared, compare
    from foredrift.ours import check_ours
    from lake.errors import ConfigError, ForedriftError
    from lake.store import Lake
    from models.base import Family
    from pipelines.settings import Settings
    from pipelines.settings import load as load_settings
    from policy.base import Decision, Forecast, Market, Policy, State
    from policy.execution.base import Plan, Vault
    from policy.execution.engine import step
    from policy.simulation.planner import BandRule, Case, Levels, Schedule, schedule
    from policy.strategies.planner_policy import RulePolicy
    from policy.strategies.registry import CompareConfig

_HOME = {
    "Case": "policy.simulation.planner",
    "CompareConfig": "policy.strategies.registry",
    "Compared": "foredrift.compared",
    "ConfigError": "lake.errors",
    "Decision": "policy.base",
    "Family": "models.base",
    "Forecast": "policy.base",
    "ForedriftError": "lake.errors",
    "Lake": "lake.store",
    "Levels": "policy.simulation.planner",
    "Market": "policy.base",
    "Plan": "policy.execution.base",
    "BandRule": "policy.simulation.planner",
    "Policy": "policy.base",
    "RulePolicy": "policy.strategies.planner_policy",
    "Schedule": "policy.simulation.planner",
    "Settings": "pipelines.settings",
    "State": "policy.base",
    "Vault": "policy.execution.base",
    "check_ours": "foredrift.ours",
    "compare": "foredrift.compared",
    "load_settings": "pipelines.settings",
    "schedule": "policy.simulation.planner",
    "step": "policy.execution.engine",
}
"""Where each public name is defined."""
_AS = {"load_settings": "load"}

__all__ = [
    "BandRule",
    "Case",
    "CompareConfig",
    "Compared",
    "ConfigError",
    "Decision",
    "Family",
    "Forecast",
    "ForedriftError",
    "Lake",
    "Levels",
    "Market",
    "Plan",
    "Policy",
    "RulePolicy",
    "Schedule",
    "Settings",
    "State",
    "Vault",
    "__version__",
    "check_ours",
    "compare",
    "load_settings",
    "schedule",
    "step",
]


def __getattr__(name: str) -> Any:
    """Load a public name from where it is defined; raises AttributeError for any other."""
    if name == "__version__":
        from importlib.metadata import version

        return version("foredrift")
    if name not in _HOME:
        raise AttributeError(f"foredrift has no {name!r}; it has {', '.join(__all__)}")
    check = import_module("foredrift.ours").check_ours
    check()
    value = getattr(import_module(_HOME[name]), _AS.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)

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
    from features.own import OwnFeature
    from foredrift.compared import Compared, compare
    from foredrift.learning import features, sample, train
    from foredrift.ours import check_ours
    from lake.errors import ConfigError, ForedriftError
    from lake.store import Lake
    from lake.venues import Venue
    from models.base import Family
    from models.config import ModelConfig
    from models.training.walkforward import TrainResult
    from pipelines.deployments import deployment
    from pipelines.settings import Settings
    from pipelines.settings import load as load_settings
    from policy.base import Decision, Forecast, Market, Policy, State
    from policy.execution.base import Plan, Vault
    from policy.execution.engine import step
    from policy.execution.records.audit import Audit
    from policy.names import Traits
    from policy.simulation.panel import Cell
    from policy.simulation.planner import BandRule, Case, Levels, Schedule, schedule
    from policy.strategies.planner_policy import RulePolicy
    from policy.strategies.registry import CompareConfig
    from policy.strategies.replay import replay

_HOME = {
    "Audit": "policy.execution.records.audit",
    "BandRule": "policy.simulation.planner",
    "Case": "policy.simulation.planner",
    "Cell": "policy.simulation.panel",
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
    "ModelConfig": "models.config",
    "OwnFeature": "features.own",
    "Plan": "policy.execution.base",
    "Policy": "policy.base",
    "RulePolicy": "policy.strategies.planner_policy",
    "Schedule": "policy.simulation.planner",
    "Settings": "pipelines.settings",
    "State": "policy.base",
    "TrainResult": "models.training.walkforward",
    "Traits": "policy.names",
    "Vault": "policy.execution.base",
    "Venue": "lake.venues",
    "check_ours": "foredrift.ours",
    "compare": "foredrift.compared",
    "deployment": "pipelines.deployments",
    "features": "foredrift.learning",
    "load_settings": "pipelines.settings",
    "replay": "policy.strategies.replay",
    "sample": "foredrift.learning",
    "schedule": "policy.simulation.planner",
    "step": "policy.execution.engine",
    "train": "foredrift.learning",
}
"""Where each public name is defined."""
_AS = {"load_settings": "load"}

__all__ = [
    "Audit",
    "BandRule",
    "Case",
    "Cell",
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
    "ModelConfig",
    "OwnFeature",
    "Plan",
    "Policy",
    "RulePolicy",
    "Schedule",
    "Settings",
    "State",
    "TrainResult",
    "Traits",
    "Vault",
    "Venue",
    "__version__",
    "check_ours",
    "compare",
    "deployment",
    "features",
    "load_settings",
    "replay",
    "sample",
    "schedule",
    "step",
    "train",
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

"""What a forecaster is asked to forecast, and how the walk-forward around it is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from lake.errors import ConfigError
from lake.units import DAY_S, HOUR_S


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Portfolio, chain and walk-forward settings shared by every forecaster family.

    Weights are fractions of NAV that sum to 1, tolerances absolute weights, times seconds unless the name says
    otherwise. Raises ConfigError naming every field that does not fit.
    """

    assets: tuple[str, ...]
    targets: Mapping[str, float] = field(default_factory=dict)  # empty: equal weights
    tolerance: Mapping[str, float] = field(default_factory=dict)  # empty: 0.05 for each, what most systems ship
    chain_id: int = 1
    native: str = "ETH"  # asset that pays for gas
    pools: tuple[str, ...] = ()  # empty: every pool the lake knows
    price_source: str | None = None  # None: any
    step_s: int = HOUR_S
    trade_sizes_usd: tuple[float, ...] = (10_000.0, 100_000.0, 1_000_000.0)
    train_window_days: int | None = None  # None: expanding; set it where old regimes mislead
    refit_every_days: int = 14  # shorter follows regime changes faster and costs fits in proportion
    min_train_days: int = 21  # three weeks: the least that shows a weekly season more than once
    warmup_days: int = 28  # folds before the start whose errors warm the calibration; never scored
    embargo_h: int = 1  # hours left out between the last known label and the fold
    seed: int = 7
    threads: int = 2  # folds trained at once; each fit itself uses one thread
    rounds: int = 120  # boosting rounds at a learning rate of 0.05; a family may take half as many at twice the rate
    tune_seconds: float = 0.0  # per target of a fold; 0: no search for booster parameters (models.boosting.tuning)
    paths: int = 32  # joint scenario paths written per decision time

    def __post_init__(self) -> None:
        """Fill the empty mappings and refuse what cannot be trained."""
        n = len(self.assets)
        object.__setattr__(self, "targets", dict(self.targets) or dict.fromkeys(self.assets, 1.0 / max(n, 1)))
        object.__setattr__(self, "tolerance", dict(self.tolerance) or dict.fromkeys(self.assets, 0.05))
        faults = [f"assets repeat: {self.assets}"] if len(set(self.assets)) != n else []
        named = {"targets": self.targets, "tolerance": self.tolerance}
        faults += [
            f"{name} must name exactly the assets {list(self.assets)}, got {given}"
            for name, given in named.items()
            if set(given) != set(self.assets)
        ]
        if n and abs(sum(self.targets.values()) - 1.0) > 1e-9:
            faults.append(f"targets must sum to 1, got {sum(self.targets.values())!r}")
        positive = ("step_s", "refit_every_days", "min_train_days", "threads", "rounds", "paths")
        faults += [f"{f} must be positive, got {getattr(self, f)!r}" for f in positive if getattr(self, f) <= 0]
        faults += [
            f"{f} must not be negative" for f in ("embargo_h", "warmup_days", "tune_seconds") if getattr(self, f) < 0
        ]
        if self.train_window_days is not None and self.train_window_days < self.min_train_days:
            faults.append(f"train_window_days must be at least min_train_days ({self.min_train_days})")
        if faults:
            raise ConfigError("; ".join(faults))

    @property
    def refit_s(self) -> int:
        """Seconds between refits."""
        return self.refit_every_days * DAY_S

    def fingerprint(self) -> str:
        """Return 12 hex digits that change whenever a setting that alters forecasts does (threads do not)."""
        plain = {k: v for k, v in asdict(self).items() if k != "threads" and not (k == "tune_seconds" and v == 0)}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all settings."""
        return tuple(f.name for f in fields(cls))

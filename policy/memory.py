"""What a policy knows besides the state and the forecasts it is handed: learnt from the past, frozen, with its hash.

A decision is a pure function of (State, forecasts, PolicyMemory). All three are written into the audit record, so the
record alone gives the decision again, to the last bit (``audit replay``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.errors import ExecutionError
from policy.base import CashFlows, ChainFees, Forecast, ForecastView, Market, State, Vector

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PolicyMemory:
    """What ``policy`` has learnt by ``at``; ``values`` are float64 arrays of any shape (numbers have none)."""

    policy: str
    at: datetime
    values: Mapping[str, Array] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """Return the number called ``name``."""
        return float(self.values[name])

    def to_json(self) -> dict[str, Any]:
        """Return plain data that ``from_json`` turns into an equal memory, to the bit."""
        values = {name: _plain(value) for name, value in sorted(self.values.items())}
        return {"policy": self.policy, "at": self.at.isoformat(), "values": values}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PolicyMemory:
        """Return the memory that ``to_json`` wrote."""
        values = {name: _array(value) for name, value in data["values"].items()}
        return cls(str(data["policy"]), datetime.fromisoformat(data["at"]), values)

    @property
    def digest(self) -> str:
        """Sha256 of the whole content."""
        return sha256(json.dumps(self.to_json(), sort_keys=True, allow_nan=False).encode()).hexdigest()


def state_json(state: State) -> dict[str, Any]:
    """Return ``state`` as plain data, exact."""
    return {
        "ts": state.ts.isoformat(), "assets": list(state.assets), "scenario": state.scenario,
        "weights": _plain(state.weights), "target": _plain(state.target), "tolerance": _plain(state.tolerance),
        "nav_usd": state.nav_usd, "gamma": state.gamma, "covariance": _plain(state.covariance),
        "last_trade": None if state.last_trade is None else state.last_trade.isoformat(),
        "max_turnover": state.max_turnover,
        "market": market_json(state.market),
    } | ({} if state.flows is None else {"flows": asdict(state.flows)})  # fmt: skip


def market_json(m: Market) -> dict[str, Any]:
    """Return the prices of one chain as plain data, exact."""
    fees = {name: getattr(m.fees, name) for name in ChainFees.__dataclass_fields__}
    return {
        "gas_gwei": m.gas_gwei, "native_usd": m.native_usd, "fees": fees, "fee": _plain(m.fee),
        "depth_usd": _plain(m.depth_usd), "usual_gwei": m.usual_gwei,
        "tradable": None if m.tradable is None else [bool(v) for v in m.tradable],
    }  # fmt: skip


def market_from(m: Mapping[str, Any]) -> Market:
    """Return the prices that ``market_json`` wrote."""
    tradable = None if m["tradable"] is None else np.array(m["tradable"], dtype=np.bool_)
    return Market(
        m["gas_gwei"], m["native_usd"], ChainFees(**m["fees"]), _array(m["fee"]), _array(m["depth_usd"]),
        m["usual_gwei"], tradable,
    )  # fmt: skip


def state_from(data: Mapping[str, Any]) -> State:
    """Return the state that ``state_json`` wrote."""
    market = market_from(data["market"])
    last = data["last_trade"]
    return State(
        datetime.fromisoformat(data["ts"]), tuple(data["assets"]), _array(data["weights"]), _array(data["target"]),
        _array(data["tolerance"]), data["nav_usd"], data["gamma"], data["scenario"], _array(data["covariance"]), market,
        None if last is None else datetime.fromisoformat(last), data["max_turnover"],
        CashFlows(**data["flows"]) if data.get("flows") else None,
    )  # fmt: skip


def forecasts_json(forecasts: ForecastView) -> list[dict[str, Any]]:
    """Return the forecasts a decision had, in a fixed order."""
    return [
        {
            "target": f.target,
            "key": f.key,
            "horizon_s": f.horizon_s,
            "issued_at": f.issued_at.isoformat(),
            "quantiles": None if f.quantiles is None else [_written(q) for q in f.quantiles],
            "mean": None if f.mean is None else _written(f.mean),
            "model_version": f.model_version,
            "abstain": f.abstain,
            "reason": f.reason,
        }
        for _, f in sorted(forecasts.items())
    ]


def forecasts_from(rows: list[dict[str, Any]]) -> ForecastView:
    """Return the view that ``forecasts_json`` wrote."""
    out = {}
    for r in rows:
        quantiles = None
        if r["quantiles"] is not None:
            q05, q25, q50, q75, q95 = map(float, r["quantiles"])
            quantiles = (q05, q25, q50, q75, q95)
        mean = None if r["mean"] is None else float(r["mean"])
        out[r["target"], r["key"], r["horizon_s"]] = Forecast(
            r["target"], r["key"], datetime.fromisoformat(r["issued_at"]), r["horizon_s"], quantiles, mean,
            r["model_version"], r["abstain"], r.get("reason"),
        )  # fmt: skip
    return out


def _plain(value: Vector) -> Any:
    """Return an array as nested lists of numbers; what JSON has no number for is written as its name."""
    if value.ndim:
        return [_plain(part) for part in value]
    return _written(float(value))


def _written(value: float) -> float | str:
    """Return a number as JSON holds it, by its name where it has no number for it."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _array(value: Any) -> Array:
    return np.array(_numbers(value), dtype=np.float64)


def _numbers(value: Any) -> Any:
    return [_numbers(part) for part in value] if isinstance(value, list) else float(value)


def expect(memory: PolicyMemory, policy: str) -> PolicyMemory:
    """Return ``memory`` if it is that of ``policy``; raises ExecutionError otherwise."""
    if memory.policy != policy:
        raise ExecutionError(f"this memory is that of {memory.policy}, not of {policy}")
    return memory

"""A small made-up comparison, for tests of what is shown and logged (not of any figure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

POLICIES = ("hold", "calendar_daily", "threshold_5pct", "threshold", "band", "gas_band", "predictive", "foresight_gas")
NAVS = (100_000.0, 1_000_000.0)
START = datetime(2024, 1, 1, tzinfo=UTC)
WEEKS = 6


def data() -> dict:
    rng = np.random.default_rng(3)
    policies, pairs, headroom = [], [], []
    for scenario in ("soft", "hard"):
        for nav in NAVS:
            for i, policy in enumerate(POLICIES):
                gas, fee, impact = (0, 0, 0) if policy == "hold" else (90 - 9 * i, 30 - 2 * i, 4)
                tracking = 400 if policy == "hold" else 20 + i
                policies.append(
                    {
                        "policy": policy,
                        "scenario": scenario,
                        "nav_usd": nav,
                        "total_bp": float(gas + fee + impact + (tracking if scenario == "soft" else 0)),
                        "gas_bp": float(gas),
                        "fee_bp": float(fee),
                        "impact_bp": float(impact),
                        "tracking_bp": float(tracking),
                        "trades_per_year": float(100 - 9 * i),
                        "violations": 0,
                        "te_annual": float(0.01 + 0.001 * i),
                    }
                )
            for b, ratio in (("gas_band", 0.91), ("threshold", 0.7)):
                pairs.append(
                    {
                        "scenario": scenario,
                        "nav_usd": nav,
                        "a": "predictive",
                        "b": b,
                        "ratio": ratio,
                        "ci_low": ratio - 0.05,
                        "ci_high": ratio + 0.05 + 0.1 * (scenario == "hard"),
                        "portfolios": 4,
                        "weeks": WEEKS,
                    }
                )
            headroom.append({"scenario": scenario, "nav_usd": nav, "captured": 0.5, "ci_low": 0.3, "ci_high": 0.7})
    forecasts = [
        {
            "target": target,
            "key": key,
            "horizon_s": 3600 * h,
            "model": "lightgbm",
            "pinball": float(rng.uniform(0.1, 0.3)),
            "skill_vs": {"last": 0.2, "seasonal": 0.3, "ar": 0.05},
            "coverage90": 0.9,
        }
        for target, key in (("gas", "1"), ("drift", "ETH"))
        for h in (1, 4, 12, 24)
    ]
    return {
        "schema": 1,
        "data": {
            "start": "2024-01-01T00:00:00+00:00",
            "end": "2024-02-12T00:00:00+00:00",
            "assets": ["BTC", "ETH"],
            "hours": 168 * WEEKS,
            "sha256": "ab" * 32,
        },
        "policies": policies,
        "pairs": pairs,
        "headroom": headroom,
        "forecasts": forecasts,
        "timing": {"portfolio_steps": 1.0, "simulate_s": 1.0},
    }


def frames() -> dict[str, pl.DataFrame]:
    portfolios, weekly, trades = [], [], []
    for i, (scenario, nav) in enumerate((s, n) for s in ("soft", "hard") for n in NAVS):
        name = f"p{i}"
        for asset in ("BTC", "ETH"):
            portfolios.append(
                {"portfolio_id": name, "scenario": scenario, "nav_usd": nav, "start": START,
                 "end": START + timedelta(weeks=WEEKS), "asset": asset, "target": 0.5, "tolerance": 0.05}
            )  # fmt: skip
        for j, policy in enumerate(POLICIES):
            for w in range(WEEKS):
                weekly.append(
                    {"portfolio_id": name, "policy": policy, "week": START + timedelta(weeks=w),
                     "gas_bp": 2.0 - 0.1 * j,
                     "fee_bp": 1.0, "impact_bp": 0.1, "tracking_bp": 0.5}
                )  # fmt: skip
            trades.append(
                {"portfolio_id": name, "policy": policy, "ts": START + timedelta(hours=5), "asset": "ETH",
                 "weight_before": 0.55, "weight_after": 0.5, "gas_usd": 9.0, "fee_usd": 2.0, "impact_usd": 0.5,
                 "reason": "trade"}
            )  # fmt: skip
    return {
        "portfolios": pl.DataFrame(portfolios),
        "weekly": pl.DataFrame(weekly),
        "trades": pl.DataFrame(trades),
    }


def timeline() -> pl.DataFrame:
    hours = 168 * WEEKS
    steps = np.arange(hours)
    gas = 20 * np.exp(0.5 * np.sin(steps / 24 * 6.28) + 0.2 * np.random.default_rng(1).normal(size=hours))
    parts = []
    for i, policy in enumerate(POLICIES):
        weight = 0.5 + 0.04 * np.sin(steps / (50 + i))
        parts.append(
            pl.DataFrame(
                {
                    "policy": policy,
                    "step": steps,
                    "ts": [START + timedelta(hours=int(s)) for s in steps],
                    "gas_gwei": gas,
                    "distance": np.abs(weight - 0.5) / 0.05,
                    "traded": (steps % (100 + 10 * i)) == 99,
                    "cost_bp": np.cumsum(np.full(hours, 0.01 * (8 - i))),
                    "w_BTC": weight,
                    "w_ETH": 1 - weight,
                }
            )
        )
    return pl.concat(parts)

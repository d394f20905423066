"""A portfolio as the page gets it: six weeks of three assets, one outside its band, a loss against one rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAYS = [AT - timedelta(days=42 - i) for i in range(43)]
PARTS = ("gas_usd", "fee_usd", "impact_usd", "tracking_usd", "total_usd")


def _asset(name: str, weight: float, target: float) -> dict:
    low, high = target - 0.03, target + 0.03
    return {
        "asset": name, "usd": weight * 1_004_310, "weight": weight, "target": target, "low": low, "high": high,
        "outside": not low <= weight <= high,
    }  # fmt: skip


def _against(rule: str, words: str, usd: float, low: float, high: float, verdict: str) -> dict:
    theirs = dict.fromkeys(PARTS, 100.0) | {"trades": 9, "hours_outside": 3}
    said = f"{usd:+,.0f} USD ({low:+,.0f} to {high:+,.0f}) against {words}, {verdict}"
    return {"rule": rule, "usd": usd, "low": low, "high": high, "verdict": verdict, "theirs": theirs, "words": said}


SENTENCE = (
    "Waiting: ETH is 1.6 points above its target, 0.4 points from trading; "
    "gas is 21.7 gwei, 14 gwei is expected by 16:00 UTC"
)
TRADED = "Traded 12,400 USDC for 3.71 ETH: forced, ETH is 0.3 points outside its band"
DATA = {
    "at": AT.isoformat(), "name": "main", "chain": 1, "vault": "simulated", "policy": "predictive", "live": True,
    "halted": None,
    "nav": {"usd": 1_004_310.0, "at": AT.isoformat(), "change_24h_usd": 3_120.0, "change_30d_usd": -12_400.0,
            "start_usd": 1e6, "start_at": DAYS[0].isoformat()},
    "assets": [_asset("USDC", 0.104, 0.1), _asset("BTC", 0.38, 0.4), _asset("ETH", 0.366, 0.35),
               _asset("LINK", 0.15, 0.15)],
    "next": {"sentence": SENTENCE, "action": "wait", "decision_id": "ab" * 12, "gas_gwei": 21.7,
             "decided_at": (AT - timedelta(minutes=3)).isoformat(), "due": (AT + timedelta(minutes=57)).isoformat(),
             "gas_low": {"gwei": 14.0, "by": (AT + timedelta(hours=4)).isoformat()}},
    "keeper": {"held": True, "fresh": True, "age_s": 4.0, "words": "keeper 4711 at block 21987654, fresh",
               "told": {"block": 21_987_654, "head_age_s": 4.0, "refusal": None, "nodes": [],
                        "order": {"cap_gwei": 14.2}}},
    "cost_month": {"gas_usd": 212.4, "fee_usd": 98.1, "impact_usd": 44.0, "total_usd": 354.5, "trades": 7,
                   "since": AT.replace(day=1, hour=0).isoformat()},
    "saved": {"since": DAYS[0].isoformat(), "hours": 1_008, "weeks": 6, "soft": False, "trades": 17,
              "hours_outside": 2, "spent": dict.fromkeys(PARTS, 80.0), "gas_factor": 1.02,
              "against": [_against("gas_band", "gas_band", 84.0, -12.0, 190.0, "within chance"),
                          _against("threshold_5pct", "the 5 % threshold", -341.0, -520.0, -160.0, "lost")],
              "words": ""},
    "decisions": [
        {"decision_id": f"{i:024x}", "ts": (AT - timedelta(hours=i)).isoformat(), "live": True, "action": "wait",
         "outcome": "waited" if i % 3 else "traded", "sentence": SENTENCE if i % 3 else TRADED}
        for i in range(10)
    ],
    "alerts": [{"alert": "abstained", "says": "The fallback gas_band decided, predictive abstained.",
                "do": "`foredrift models`"}],
    "loss_budget": {"left_bp": 7.5, "of_bp": 10.0}, "gas_money": {"native": 0.42, "usd": 840.0, "words": "0.42 ETH"},
    "history": {"ts": [d.isoformat() for d in DAYS], "nav_usd": [1e6 + 3_000 * (i % 7) for i in range(43)],
                "weights": {"USDC": [0.1] * 43, "BTC": [0.4] * 43, "ETH": [0.35] * 43, "LINK": [0.15] * 43},
                "drift": [0.3 + 0.02 * i for i in range(43)], "trades": [DAYS[i].isoformat() for i in range(0, 43, 6)]},
    "gas": {"now_gwei": 21.7, "issued": AT.isoformat(), "low": {"gwei": 14.0, "by": AT.isoformat()},
            "past": [{"ts": (AT - timedelta(hours=24 - i)).isoformat(), "gwei": 18.0 + i % 5} for i in range(24)],
            "fan": [{"ts": (AT + timedelta(hours=h)).isoformat(), "q05": 8.0, "q25": 12.0, "q50": 15.0, "q75": 22.0,
                     "q95": 40.0} for h in (1, 2, 4, 8, 12, 24)]},
    "outside": {"today": {"outside_min": 12.0, "known_min": 720.0, "episodes": 1},
                "days30": {"outside_min": 200.0, "known_min": 43_200.0, "episodes": 4},
                "words": "Outside its tolerances today: 12 min; in the last 30 days: 3 h 20 min "
                         "(0.5% of the 30 days that are known)."},
    "drift": {"issued": AT.isoformat(), "hours": 24, "words": "", "rows": [
        {"asset": a, "weight": w, "target": t, "low": t - 0.03, "high": t + 0.03, "q05": w * 0.96, "q25": w * 0.985,
         "q50": w, "q75": w * 1.015, "q95": w * 1.05}
        for a, w, t in (("BTC", 0.38, 0.4), ("ETH", 0.366, 0.35), ("LINK", 0.15, 0.15))
    ]},
    "slippage": {"issued": AT.isoformat(), "hours": 1, "size_usd": 100_000.0, "words": "", "rows": [
        {"pool": "0x" + "12" * 20, "asset": "ETH", "q05": 6.4, "q50": 7.7, "q95": 12.1},
        {"pool": "0x" + "34" * 20, "asset": None, "q05": 31.2, "q50": 36.0, "q95": 61.8},
    ]},
    "chains": None, "greeks": None,
    "models": [{"family": "gas", "version": "3", "trained_until": AT.isoformat(), "age_d": 4.2}],
    "coverage": [{"target": "gas", "horizon_h": 1, "coverage90": 0.91, "outcomes": 600}],
}  # fmt: skip
CHAINS = {
    "places": [
        {"chain": c, "deployment": name, "usd": usd, "share": usd / 1_004_310, "cash_usd": cash, "floor_usd": 30_000.0,
         "gas_gwei": 1.0}
        for c, name, usd, cash in ((1, "main", 700_000.0, 81_000.0), (42161, "arbitrum", 304_310.0, 12_400.0))
    ],
    "under_way": [{"saga_id": "ab" * 16, "from": 1, "to": 42161, "bridge": "cctp", "usd": 25_000.0, "state": "sent",
                   "age_s": 540.0, "usual_s": 1_140.0}],
    "words": "",
    "history": {"ts": [t.isoformat() for t in DAYS[:3]],
                "usd": {"1": [7e5, 6.9e5, 6.7e5], "42161": [3e5, 3e5, 3.3e5]},
                "moves": [{"ts": DAYS[1].isoformat(), "from": 1, "to": 42161, "usd": 25_000.0}]},
}  # fmt: skip
GREEKS = {
    "ts": AT.isoformat(), "nav_usd": 1_004_310.0, "words": "", "hedged": True,
    "assets": [{"asset": "ETH", "delta_usd": -12_400.0, "cash_gamma_usd": 310_000.0, "vega_usd_per_point": -1_240.0,
                "theta_usd_per_day": 412.0, "net_exposure": -0.0123}],
    "hedge": {"net_delta_units": -4.1, "action": "wait", "why": "net exposure 1.2 % of NAV, inside its band of 2 %"},
}  # fmt: skip
WHOLE = {**DATA, "chains": CHAINS, "greeks": GREEKS}
"""A portfolio on two chains with a book of options."""

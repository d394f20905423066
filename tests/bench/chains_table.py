"""One portfolio on three chains on recorded 2022 prices, gas and depth: `make chains` (ARGS="--portfolios 16").

Reads the folder of FOREDRIFT_DATA (prices_1h, gas_1h, pool_1h as Parquet), prints every cell, the sensitivity table,
the collapse to one chain, and each figure against what is asked of it. Depth of an asset to the recorded pool's is a
guess.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lake.store import Lake
from lake.units import utc
from pipelines.reports import chain_tables
from policy.comparison.chains import NAVS, ChainsConfig, compare_chains
from policy.simulation.chain_world import ChainTerms
from policy.simulation.history import History, load
from tests.bench.realtime_table import whole

DEPTH = {"BTC": 0.7, "ETH": 1.0, "LINK": 0.1, "UNI": 0.1, "AAVE": 0.05, "MKR": 0.05, "SOL": 0.05}
ASKED = {"alone": 0.65, "naive": 0.55, "alone_cash": 0.80}
MOST_ALONE_HIGH, MOST_FORCED, MOST_TRANSFERS, COLLAPSE = 0.85, 1.0, 30.0, 1.01


def recorded(folder: Path, root: Path) -> History:
    """Return the history of the recorded span with gas, from a lake in ``root``."""
    lake, hour = Lake(str(root)), timedelta(hours=1)
    rows = pl.read_parquet(folder / "prices_1h.parquet").filter(pl.col("asset").is_in(list(DEPTH)))
    lake.write("prices", whole("prices", rows.with_columns(
        source=pl.lit("binance"), step=pl.lit(3600), available_at=pl.col("ts") + hour,
        high=pl.max_horizontal("high", "close"), low=pl.min_horizontal("low", "close"),
    )))  # fmt: skip
    gas = pl.read_parquet(folder / "gas_1h.parquet").select(
        "ts", base_fee_gwei="gas_price_gwei", chain_id=pl.lit(1), available_at=pl.col("ts") + hour
    )
    lake.write("gas", whole("gas", gas.drop_nulls("base_fee_gwei").unique("ts")))
    pool = pl.read_parquet(folder / "pool_1h.parquet").select(
        "ts", "depth_1pct_usd", pool=pl.lit("usdc-weth"), chain_id=pl.lit(1), price="price_usdc_per_weth",
        available_at="ts",
    )  # fmt: skip
    lake.write("pool_state", whole("pool_state", pool.drop_nulls().unique("ts")))
    return load(lake, utc("2022-05-12"), utc("2022-12-10"), [*DEPTH, "USDC"])


def verdicts(found: dict[str, Any]) -> list[str]:
    """Return one line a figure that was asked for: met or missed."""
    out = []
    for cell in found["cells"]:
        nav = f"{cell['nav_usd']:,.0f}"
        for p in cell["pairs"]:
            asked = ASKED.get(p["against"])
            if asked is not None:
                met = p["ratio"] <= asked and (p["against"] != "alone" or p["high"] < MOST_ALONE_HIGH)
                out.append(
                    f"{nav} global/{p['against']} {p['ratio']:.3f} (to {p['high']:.3f}), asked {asked}: {_word(met)}"
                )
        own = next(p for p in cell["policies"] if p["policy"] == "global")
        for name, most in (("forced_sales", MOST_FORCED), ("transfers", MOST_TRANSFERS)):
            out.append(f"{nav} {name} a year {own[name]:.2f}, asked at most {most:.0f}: {_word(own[name] <= most)}")
    for row in found["collapse"]:
        met, ratio = row["over_today"] <= COLLAPSE, f"{row['over_today']:.4f} (from {row['low']:.3f})"
        out.append(f"{row['nav_usd']:,.0f} {row['cell']}: {ratio} of today's, at most {COLLAPSE}: {_word(met)}")
    return out


def _word(met: bool) -> str:
    return "met" if met else "MISSED"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--portfolios", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    given = parser.parse_args()
    folder = Path(os.environ.get("FOREDRIFT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not (folder / "prices_1h.parquet").exists():
        raise SystemExit(f"no recorded history at {folder}; point FOREDRIFT_DATA at a folder with prices_1h.parquet")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        history = recorded(folder, Path(root))
        config = ChainsConfig(
            portfolios=given.portfolios, threads=given.threads, navs=NAVS, terms=ChainTerms(depth_of=DEPTH)
        )
        found = compare_chains(history, config, lambda what, i, n: print(what, i, n, flush=True))
    chain_tables.comparison(found)
    print("\n".join(verdicts(found)))
    print(f"{time.perf_counter() - began:.0f} s")
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

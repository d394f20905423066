"""What looking within the hour is worth on recorded history: `make realtime` (FROM=, TO=, PORTFOLIOS=).

Reads the folder of FOREDRIFT_DATA (prices_1h, prices_5m, gas_1h, gas_5m, gas_1d, blocks_2022_09 as Parquet), compares
soft mandates of gamma 3, 10 and 30 and a hard one of 2 % at block resolution (sooner: ``--resolution 5m``) and prints
each figure against what is asked of it; ``--flat`` with gas made flat within the hour, ``--both`` one after the other.
Surfaces are built walk-forward.

With ``--daily`` hours without a record of gas are made from the recorded mean of their day and the shape of a recorded
day drawn for each (seeded): other years can then be looked at, semi-synthetic by one step more.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from lake.store import Lake
from lake.tables import table
from lake.units import utc
from policy.comparison.compare import run
from policy.realtime.looks import LOOKS
from policy.simulation.panel import Cell
from policy.strategies.registry import CompareConfig

CELLS = (
    *(Cell(f"soft g{g:.0f}", "soft", 1e5, 1, gammas=(g,)) for g in (3.0, 10.0, 30.0)),
    Cell("hard 2%", "hard", 1e5, 1, tolerances=(0.02,)),
)
NAMES = (
    "gas_band", "gas_band_margin", "gas_limit", "gas_band_5m", "surface_5m", "surface_mix_5m", "gas_band_block",
    "surface_block", "surface_mix_block",
)  # fmt: skip
ASSETS = ("BTC", "ETH", "LINK", "UNI")
ASKED = {"soft g3": 0.88, "soft g10": 0.86, "soft g30": 0.85}


def whole(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return ``rows`` with every column of table ``name``."""
    columns = table(name).columns
    return rows.select(
        pl.col(n).cast(t) if n in rows.columns else pl.lit(None, dtype=t).alias(n) for n, t in columns.items()
    )


def recorded(folder: Path, root: Path) -> Lake:
    """Return a lake in ``root`` of the recorded prices and gas in ``folder``."""
    lake = Lake(str(root))
    for name, seconds in (("prices_1h", 3600), ("prices_5m", 300)):
        rows = pl.read_parquet(folder / f"{name}.parquet").filter(pl.col("asset").is_in(ASSETS))
        lake.write("prices", whole("prices", rows.with_columns(
            source=pl.lit("binance"), step=pl.lit(seconds), available_at=pl.col("ts") + timedelta(seconds=seconds),
            high=pl.max_horizontal("high", "close"), low=pl.min_horizontal("low", "close"),
        )))  # fmt: skip
    for name, column, step in (
        ("gas_1h", "gas_price_gwei", timedelta(hours=1)), ("gas_5m", "min_gas_price_gwei", timedelta(minutes=5)),
    ):  # fmt: skip
        rows = pl.read_parquet(folder / f"{name}.parquet").select(
            "ts", base_fee_gwei=column, chain_id=pl.lit(1), available_at=pl.col("ts") + step
        )
        lake.write("gas", whole("gas", rows.drop_nulls("base_fee_gwei").unique("ts")))
    blocks = pl.read_parquet(folder / "blocks_2022_09.parquet").select(
        "ts", "block_number", base_fee_gwei=pl.col("base_fee_wei") / 1e9, chain_id=pl.lit(1), available_at=pl.col("ts")
    )
    hours = pl.col("ts").is_in(blocks["ts"].implode())  # an hour's row stays where a block has the same second
    have = lake.scan("gas").filter(hours).select("ts").collect()["ts"]
    lake.write("gas", whole("gas", blocks.unique("ts").filter(~pl.col("ts").is_in(have.implode()))))
    return lake


def from_days(folder: Path, lake: Lake, seed: int) -> None:
    """Write hourly gas for the days of gas_1d that have no finer record: the day's mean x a recorded day's shape."""
    hourly = pl.read_parquet(folder / "gas_1h.parquet").select("ts", gas="gas_price_gwei").drop_nulls()
    day = pl.col("ts").dt.date()
    whole_days = hourly.filter(pl.len().over(day) == 24).sort("ts")
    shapes = (whole_days["gas"] / whole_days.select(pl.col("gas").mean().over(day))["gas"]).to_numpy().reshape(-1, 24)
    known = lake.scan("gas").select(day.unique().alias("day")).collect()["day"]
    days = pl.read_parquet(folder / "gas_1d.parquet").filter(~day.is_in(known.implode())).sort("ts")
    drawn = shapes[np.random.default_rng(seed).integers(0, len(shapes), days.height)]
    rows = pl.DataFrame({
        "ts": [t + timedelta(hours=h) for t in days["ts"] for h in range(24)],
        "base_fee_gwei": (days["gas_price_gwei"].to_numpy()[:, None] * drawn).ravel(),
    }).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")), chain_id=pl.lit(1), available_at=pl.col("ts") + timedelta(hours=1)
    )  # fmt: skip
    lake.write("gas", whole("gas", rows))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--start", default="2022-08-01")
    parser.add_argument("--end", default="2022-12-10")
    parser.add_argument("--portfolios", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resolution", choices=("5m", "block"), default="block")
    for name in ("daily", "flat", "both"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--cells", default="", help="numbers of cells, 0 to 3; empty: all")
    given = parser.parse_args()
    names = tuple(n for n in NAMES if LOOKS[n].fits(given.resolution))
    cells = tuple(CELLS[int(c)] for c in given.cells) or CELLS
    folder = Path(os.environ.get("FOREDRIFT_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as root:
        lake = recorded(folder, Path(root) / "lake")
        if given.daily:
            from_days(folder, lake, given.seed)
        for flat in (False, True) if given.both else (given.flat,):
            began = time.perf_counter(), time.process_time()
            found = run(lake, CompareConfig(
                utc(given.start), utc(given.end), given.portfolios, names, given.seed, cells, ASSETS, draws=1_000,
                threads=given.threads, resolution=given.resolution, flat_gas=flat, starts=1, largest=4,
            ))  # fmt: skip
            spent = time.perf_counter() - began[0], time.process_time() - began[1]
            title = "flat within the hour" if flat else "within the hour"
            print(f"\n== gas {title}; {spent[0]:.0f} s, {spent[1]:.0f} s CPU")
            for note in found.notes:
                print("note:", note)
            show(found.json["policies"], found.json["pairs"], cells)
            dearest(found.weekly, found.trades)


def show(policies: list[dict], pairs: list[dict], cells: tuple[Cell, ...]) -> None:
    """Print costs, ratios over hourly gas_band with intervals, gas a trade over it, and minutes outside."""
    for cell in cells:
        rows = {r["policy"]: r for r in policies if r["scenario"] == cell.label}
        base = rows["gas_band"]
        print(f"{cell.label:9s} (asked: {ASKED.get(cell.label, 'minutes outside 1/20 and 1/8')})")
        for name, r in rows.items():
            pair = [p for p in pairs if (p["scenario"], p["a"], p["b"]) == (cell.label, name, "gas_band")]
            between = f"[{pair[0]['ci_low']:.3f}, {pair[0]['ci_high']:.3f}]" if pair else ""
            per_trade = r["gas_per_trade_usd"] / max(base["gas_per_trade_usd"], 1e-9)
            print(
                f"  {name:16s} {r['total_bp']:8.2f} bp  x{r['total_bp'] / base['total_bp']:.3f} {between:16s} "
                f"gas/trade {r['gas_per_trade_usd']:6.2f} USD x{per_trade:.2f}  trades {r['trades_per_year']:6.1f}  "
                f"outside {r['minutes_outside']:7.1f} min/y  wait {r['wait_s']:5.0f} s  unfilled {r['unfilled']}"
            )


def dearest(weekly: pl.DataFrame, trades: pl.DataFrame) -> None:
    """Print the hard mandate's trading cost without the day it was dearest, by policy, over hourly gas_band's."""
    hard = trades.filter(pl.col("portfolio_id").cast(pl.String).str.starts_with("hard")).with_columns(
        policy=pl.col("policy").cast(pl.String), day=pl.col("ts").dt.date(),
        usd=pl.col("gas_usd") + pl.col("fee_usd") + pl.col("impact_usd"),
    )  # fmt: skip
    days = hard.group_by("policy", "day").agg(pl.col("usd").sum())
    if days.is_empty():
        return
    least = {str(n): float(d["usd"].sum() - d["usd"].max()) for (n,), d in days.group_by("policy")}
    base = least["gas_band"]
    print("hard 2%, without each policy's dearest day, over gas_band: " + ", ".join(
        f"{n} {least[n] / base:.3f}" for n in NAMES if n in least
    ))  # fmt: skip


if __name__ == "__main__":
    main()

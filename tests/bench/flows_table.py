"""What netting holders' flows against the rebalance saves, bp of NAV a year: `make flows ARGS="--portfolios 24"`.

``--daily-gas`` is for a year of which a day's mean gas alone is recorded: each hour pays the mean of the day before,
which was known. Reads the folder of FOREDRIFT_DATA (as `make realtime` does), adds an accounting asset to every basket
of the panel, and lets the holders of ``tests.flows.investors.FlowProcess`` come and go: with a day's notice
(ERC-7540) and at once (ERC-4626). A row whose 95 % interval (weekly blocks) holds zero is a null and is said to be one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from lake.store import Lake
from lake.units import utc
from policy.simulation.history import load
from policy.simulation.panel import DEFAULT_CELLS
from tests.bench.realtime_table import ASSETS, recorded, whole
from tests.flows.investors import FlowProcess
from tests.flows.saving import Saving, savings


def lines(rows: Sequence[Saving]) -> list[str]:
    """The table, a line a row."""
    heads = f"{'mandate':11s} {'NAV':>10s} {'notice':>6s} {'arm':8s} {'blind':>8s} {'saved':>8s} {'95 %':>20s}"
    found = [f"{heads}  {'forced a year':>13s}  h outside a year"]
    for r in rows:
        between = f"[{r.saved_bp.low:.2f}, {r.saved_bp.high:.2f}]"
        forced = f"{r.forced_blind:.1f} -> {r.forced_arm:.1f}"
        outside = f"{r.outside_blind_h:.0f} -> {r.outside_arm_h:.0f}"
        found.append(
            f"{r.cell:11s} {r.nav_usd:10,.0f} {r.notice_h:4d} h {r.arm:8s} {r.blind_bp:8.2f} {r.saved_bp.value:8.2f} "
            f"{between:>20s}  {forced:>13s}  {outside}{'  (null)' if r.null else ''}"
        )
    return found


def daily(folder: Path, prices: Lake, root: Path) -> Lake:
    """Return a lake in ``root`` of the recorded prices, with the mean gas of a day paid in each hour of the next."""
    lake = Lake(str(root))
    lake.write("prices", prices.scan("prices").collect())
    days = pl.read_parquet(folder / "gas_1d.parquet").select(
        day=pl.col("ts") + timedelta(days=1), mean="gas_price_gwei"
    )
    hours = days.join(pl.DataFrame({"hour": [timedelta(hours=h) for h in range(24)]}), how="cross")
    when = pl.col("day") + pl.col("hour")
    rows = hours.select(chain_id=pl.lit(1), ts=when, available_at=when, base_fee_gwei="mean")
    lake.write("gas", whole("gas", rows))
    return lake


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--start", default="2022-02-01")
    parser.add_argument("--end", default="2022-12-10")
    parser.add_argument("--portfolios", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", default="", help="mandates whose name begins so: soft, hard")
    parser.add_argument("--daily-gas", action="store_true")
    given = parser.parse_args()
    folder = Path(os.environ.get("FOREDRIFT_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as root:
        lake = recorded(folder, Path(root) / "lake")
        if given.daily_gas:
            lake = daily(folder, lake, Path(root) / "days")
        history = load(lake, utc(given.start), utc(given.end), ASSETS)
        began = time.perf_counter()
        cells = [c for c in DEFAULT_CELLS if c.label.startswith(given.only)]
        rows = savings(history, cells, given.portfolios, given.seed)
    print(f"{FlowProcess()}")
    print(
        f"{history.when(history.first):%Y-%m-%d} to {given.end}, {given.portfolios} baskets a cell, seed {given.seed}"
        f"{', gas of each hour: the mean of the day before' if given.daily_gas else ''}"
    )
    print("\n".join(lines(rows)))
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()

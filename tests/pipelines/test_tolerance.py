"""Time outside tolerance, against a second-by-second recount of the same history."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from pipelines.settlements.mandate.tolerance import ANY, CHANGES, Epoch, judged

ASSETS, TARGETS, CAPS = ("USDC", "ETH", "BTC"), (0.2, 0.5, 0.3), (0.05, 0.04, 0.03)
START, END = 1_700_000_000, 1_700_000_600


def history(seed: int, changes: int = 60) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [(START - 50, i, "held", 1e6 * t) for i, t in enumerate(TARGETS)]
    rows += [(START - 40, i, "price", 1e8) for i in range(3)]
    for at in sorted(rng.integers(START - 20, END, changes)):
        kind = "held" if rng.random() < 0.5 else "price"
        i = int(rng.integers(0, 3))
        base = 1e6 * TARGETS[i] if kind == "held" else 1e8
        bad = kind == "price" and rng.random() < 0.1
        rows.append((int(at), i, kind, None if bad else base * float(np.exp(rng.normal(0, 0.12)))))
    return pl.DataFrame(rows, schema=CHANGES, orient="row")


def recounted(changes: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """(seconds outside, seconds unknown) by asset, one second after the other."""
    found = {a: [0, 0] for a in (*ASSETS, ANY)}
    rows = sorted(enumerate(changes.iter_rows()), key=lambda r: (r[1][0], r[0]))
    for second in range(START, END):
        held, price = [0.0] * 3, [0.0] * 3
        for _, (at, i, kind, value) in rows:
            if at <= second:
                (held if kind == "held" else price)[i] = np.nan if value is None else value
        value = np.array(held) * np.array(price)
        if not np.isfinite(value).all() or value.sum() <= 0:
            for name in found:
                found[name][1] += 1
            continue
        out = np.abs(value / value.sum() - TARGETS) > np.array(CAPS) + 1e-9
        for name, yes in zip(ASSETS, out, strict=True):
            found[name][0] += int(yes)
        found[ANY][0] += int(out.any())
    return {k: (v[0], v[1]) for k, v in found.items()}


def epoch(changes: pl.DataFrame, **more) -> Epoch:
    given = {
        "start_s": START, "end_s": END, "assets": ASSETS, "targets": TARGETS, "caps": CAPS, "scales": (0, 0, 0),
        "changes": changes,
    }  # fmt: skip
    return Epoch(**{**given, **more})


@pytest.mark.parametrize("seed", range(6))
def test_seconds_are_those_of_a_recount(seed):
    changes = history(seed)
    table, outside = judged([epoch(changes)])
    told = {r["asset"]: (r["outside_s"], r["unknown_s"]) for r in table.iter_rows(named=True)}
    assert told == recounted(changes)
    assert set(table["seconds"]) == {END - START}
    assert outside["seconds"].sum() == told[ANY][0]


@pytest.mark.parametrize("seed", range(3))
def test_splitting_a_stretch_changes_no_sum(seed):
    changes, middle = history(seed), START + 217
    whole, _ = judged([epoch(changes)])
    before = changes.filter(pl.col("time_s") < middle)
    parts, _ = judged([epoch(before, end_s=middle), epoch(changes, start_s=middle)])
    assert parts.drop("episodes").equals(whole.drop("episodes"))


def test_exactly_at_the_tolerance_is_inside_and_the_worst_is_told():
    rows = [(START - 1, 0, "held", 25.0), (START - 1, 1, "held", 50.0), (START - 1, 2, "held", 25.0)]
    rows += [(START - 1, i, "price", 1.0) for i in range(3)]
    rows += [(START + 100, 2, "held", 24.0), (START + 160, 2, "held", 25.0)]
    table, outside = judged([epoch(pl.DataFrame(rows, schema=CHANGES, orient="row"), caps=(0.05, 0.05, 0.05))])
    by = {r["asset"]: r for r in table.iter_rows(named=True)}
    assert (by["USDC"]["outside_s"], by["BTC"]["outside_s"], by[ANY]["outside_s"]) == (60, 60, 60)
    assert by[ANY]["episodes"] == 1
    assert by["BTC"]["worst_bp"] == pytest.approx((24 / 99 - 0.3) * 10_000)
    (row,) = outside.iter_rows(named=True)
    assert row["since"] == datetime.fromtimestamp(START + 100, UTC)
    assert (row["seconds"], row["assets"]) == (60, "BTC, USDC")


def test_without_tolerances_or_prices_nothing_is_claimed():
    no_caps, outside = judged([epoch(history(1), caps=None)])
    assert set(no_caps["outside_s"]) == {0}
    assert set(no_caps["unknown_s"]) == {END - START}
    assert outside.is_empty()
    bare = history(1).filter(pl.col("kind") == "held")
    table, _ = judged([epoch(bare)])
    assert set(table["unknown_s"]) == {END - START}


def test_decimals_count():
    rows = [(START - 1, 0, "held", 20e6), (START - 1, 1, "held", 50e18), (START - 1, 2, "held", 30e8)]
    rows += [(START - 1, 0, "price", 1e8), (START - 1, 1, "price", 1e8), (START - 1, 2, "price", 1e18)]
    table, _ = judged([epoch(pl.DataFrame(rows, schema=CHANGES, orient="row"), scales=(-14, -26, -26))])
    assert set(table["outside_s"]) == {0}
    assert max(abs(w) for w in table["worst_bp"]) < 1e-6

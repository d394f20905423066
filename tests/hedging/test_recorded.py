"""Recorded marks and deltas: exact where they are of one moment, told apart where the underlying moved in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from lake.errors import DataError
from lake.sources.options import check
from policy.hedging import pricing
from policy.hedging.quotes import fit, hidden_errors
from policy.hedging.recorded import own_forwards, recorded

START = datetime(2026, 1, 1, tzinfo=UTC)
STRIKES = np.arange(2_400.0, 3_601.0, 50.0)


def chain(walk_bp=0.0, seed=0, moments=3):
    """Snapshots whose deltas are read one after another, the forward walking ``walk_bp`` from each to the next."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(moments):
        ts, F = START + timedelta(hours=6 * i), 3_000.0 * float(np.exp(0.01 * rng.standard_normal()))
        rows = [(x, K, c) for x in (20, 50) for K in STRIKES for c in (True, False)]
        order = rng.permutation(len(rows))
        days, K, call = (np.array(column)[order] for column in zip(*rows, strict=True))
        tau = (days * 86_400 - i * 6 * 3_600) / (365 * 86_400)
        vol = 0.6 + 0.2 * np.log(K / F) ** 2
        then = F * np.exp(np.cumsum(walk_bp * 1e-4 * rng.standard_normal(len(rows))))
        at, read = (pricing.greeks(f, K, tau, vol, call) for f in (np.full(len(K), F), then))
        mark = at[:, pricing.PRICE] / F
        made.append(
            pl.DataFrame(
                {
                    "ts": [ts] * len(K), "asset": ["ETH"] * len(K), "strike": K, "mark_iv": vol,
                    "expiry": [START + timedelta(days=int(d)) for d in days], "kind": np.where(call, "c", "p"),
                    "forward": np.full(len(K), F), "mark_coin": mark, "delta": read[:, pricing.DELTA],
                    "bid_coin": mark - 2e-3, "ask_coin": mark + 2e-3,
                }
            )
        )  # fmt: skip
    both = pl.concat(made)
    return both.with_columns(bid_coin=pl.when(pl.col("bid_coin") > 0).then("bid_coin"))


def test_what_is_of_one_moment_agrees_to_the_last_digits():
    found = recorded(check(chain(), "made"))
    assert found.mark_coin == pytest.approx(0.0, abs=1e-14)
    assert found.parity_coin == pytest.approx(0.0, abs=1e-14)
    assert found.delta == pytest.approx(0.0, abs=1e-14)
    assert found.delta_pairs == pytest.approx(0.0, abs=1e-14)
    assert found.delta_own == pytest.approx(0.0, abs=1e-12)


def test_deltas_read_while_the_underlying_moves_are_told_from_a_wrong_delta():
    rows = check(chain(walk_bp=0.5), "made")
    found = recorded(rows)
    assert found.mark_coin == pytest.approx(0.0, abs=1e-14)
    assert found.delta_own < found.delta / 3
    assert found.delta_pairs > found.delta_own
    wrong = rows.with_columns(delta=pl.col("delta") - pl.col("mark_coin"))  # that of the account in coins
    wrong = wrong.with_columns(delta=pl.when(pl.col("kind") == "c").then(pl.col("delta").clip(0, 1)).otherwise("delta"))
    assert recorded(wrong).delta_own > 10 * found.delta_own


def test_a_forward_of_its_own_comes_from_the_neighbours_alone():
    rows = check(chain(), "made").sort("asset", "ts", "place")
    F = rows["forward"].to_numpy()
    assert np.allclose(own_forwards(rows), F, rtol=1e-12)
    middle = len(rows) // 2
    off = rows.with_columns(delta=pl.when(pl.int_range(pl.len()) == middle).then(pl.lit(0.5)).otherwise("delta"))
    off = off.with_columns(kind=pl.when(pl.int_range(pl.len()) == middle).then(pl.lit("c")).otherwise("kind"))
    assert own_forwards(off)[middle] == pytest.approx(F[middle], rel=1e-12)
    assert np.isnan(own_forwards(rows.head(1))).all()


def test_snapshots_are_never_mixed():
    rows = check(chain(), "made").sort("asset", "ts", "place")
    first = rows["ts"] == rows["ts"][0]
    alone = own_forwards(rows.filter(first))
    assert np.array_equal(own_forwards(rows)[: len(alone)], alone)


def test_a_chain_without_marks_and_deltas_says_so_by_none():
    bare = recorded(check(chain().drop("mark_coin", "delta"), "made"))
    assert bare == type(bare)(None, None, None, None, None)
    empty = chain().with_columns(delta=pl.lit(None, pl.Float64), mark_coin=pl.lit(None, pl.Float64))
    assert recorded(check(empty, "made")) == bare
    calls = recorded(check(chain().filter(pl.col("kind") == "c"), "made"))
    assert (calls.parity_coin, calls.delta_pairs) == (None, None)
    assert calls.delta_own == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pl.col("delta") * 100, "one option, not a position"),
        (-pl.col("delta"), "0 to 1 of a call"),
        (pl.lit(float("nan")).alias("delta"), "-1 to 0 of a put"),
        (pl.col("mark_coin") * -1, "null, not a sign"),
    ],
)
def test_bad_marks_and_deltas_are_refused(change, said):
    with pytest.raises(DataError, match=said):
        check(chain().with_columns(change), "made")


def test_hidden_strikes_are_held_to_half_the_spread_they_are_quoted_at():
    rows = check(chain(), "made")
    errors, halves, smiles = hidden_errors(rows)
    assert smiles == 6
    assert errors.size == halves.size > 0
    found = fit(rows)
    assert found.hidden_inside == pytest.approx(np.mean((errors <= halves)[np.isfinite(halves)]))
    tight = fit(rows.with_columns(ask_coin=pl.col("bid_coin") + 1e-9))
    assert tight.hidden_inside < found.hidden_inside
    assert fit(rows.drop("ask_coin")).hidden_inside is None

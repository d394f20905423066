"""Speed of the option kernel and of a book, against the vectorised closed form of scipy in the same run."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.special import ndtr

from policy.hedging import book as books
from policy.hedging import pricing
from policy.hedging.instruments import Option
from policy.hedging.stress import ladder
from tests.bench.pace import Pace


def chain(n):
    rng = np.random.default_rng(0)
    F = rng.uniform(1_000, 80_000, n)
    return F, F * np.exp(rng.normal(0, 0.3, n)), rng.uniform(0.01, 1, n), rng.uniform(0.2, 1.5, n), rng.random(n) < 0.5


def peer(F, K, tau, vol, call):
    """The seven figures in numpy and scipy: what one would write without a compiler."""
    root = np.sqrt(tau)
    sd = vol * root
    d1 = np.log(F / K) / sd + 0.5 * sd
    d2, s = d1 - sd, np.where(call, 1.0, -1.0)
    density = np.exp(-0.5 * d1 * d1) / np.sqrt(2 * np.pi)
    price, vega = s * (F * ndtr(s * d1) - K * ndtr(s * d2)), F * density * root
    return np.column_stack([
        price, s * ndtr(s * d1), density / (F * sd), vega, -0.5 * F * density * vol / root, -density * d2 / vol,
        vega * d1 * d2 / vol,
    ])  # fmt: skip


def test_kernel_and_implied_volatility(pace: Pace):
    n = pace.pick(400_000, 500)
    args = chain(n)
    mine, theirs = pricing.greeks(*args), peer(*args)
    assert np.allclose(mine, theirs, rtol=1e-9, atol=1e-9)
    pricing.implied_vol(mine[:, 0], *args[:3], args[4])
    out, flat = np.empty((n, 7)), [np.ascontiguousarray(a) for a in args]
    kernel = pace.seconds(lambda: pricing._greeks(*flat, out), 5, time.thread_time)
    with_numpy = pace.seconds(lambda: peer(*args), 5, time.thread_time)
    implied = pace.seconds(lambda: pricing.implied_vol(mine[:, 0], *args[:3], args[4]), 3, time.thread_time)
    print(
        f"\nkernel {n / kernel / 1e6:.1f} M options/s a core, numpy and scipy {n / with_numpy / 1e6:.1f} M; "
        f"implied volatility {n / implied / 1e6:.2f} M/s"
    )
    if pace.timed:
        assert n / kernel > 10e6
        assert n / implied > 0.7e6
        assert kernel < with_numpy


def test_a_book_of_a_thousand_lines(pace: Pace):
    now, rng = datetime(2026, 1, 1, tzinfo=UTC), np.random.default_rng(1)
    n = pace.pick(1_000, 50)
    held = tuple(
        Option(f"o{i}", "ETH", float(rng.normal()), "call", 3_000.0 * float(rng.uniform(0.5, 1.5)),
               now + timedelta(days=int(rng.integers(1, 90))), 0.7, 3_010.0, "coin")
        for i in range(n)
    )  # fmt: skip
    book = books.Book(now, {"ETH": 3_000.0}, held, 1e6)
    books.total(books.lines(book))
    whole = pace.seconds(lambda: books.total(books.lines(book)), 7, time.thread_time)
    rungs = pace.seconds(
        lambda: ladder(book, np.linspace(-0.5, 0.5, 41), np.linspace(-0.5, 1, 21)), 2, time.thread_time
    )
    print(f"\nbook of {n} lines {1e3 * whole:.1f} ms; ladder of 41 x 21 of it {rungs:.2f} s")
    if pace.timed:
        assert whole < 0.020
        assert rungs < 1.0

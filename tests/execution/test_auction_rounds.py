"""A few rounds of auctions on a made-up market; ``make auctions`` runs 50 on the recorded one."""

from __future__ import annotations

import numpy as np
import pytest

from policy.execution.auctions.orders import VenueKind
from tests.execution.auction_rounds import feed_of, rounds, table

pytestmark = pytest.mark.chain


def test_the_vault_gets_near_the_market_and_never_less_than_its_floor():
    steps = np.random.default_rng(11).standard_normal(2_000) * 0.6 * np.sqrt(12 / 31_557_600)
    found = rounds(2, 3, (VenueKind.DUTCH, VenueKind.PRIORITY), 2_500 * np.exp(np.cumsum(steps)))
    assert found[VenueKind.PRIORITY].unfilled == found[VenueKind.DUTCH].unfilled == 0
    assert np.mean(found[VenueKind.DUTCH].market) >= -10
    assert np.mean(found[VenueKind.PRIORITY].market) >= -9
    assert sum(s.under_floor for s in found.values()) == 0
    assert "dutch" in table(found)


def test_a_feed_posts_at_half_a_per_cent_and_hourly():
    flat = feed_of(np.full(700, 2_000.0))
    assert set(flat) == {2_000.0}
    jump = np.concatenate([np.full(10, 2_000.0), np.full(10, 2_008.0), np.full(10, 2_020.0)])
    assert feed_of(jump)[[9, 15, 25]].tolist() == [2_000.0, 2_000.0, 2_020.0]

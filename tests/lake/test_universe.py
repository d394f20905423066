"""Rows of chains, tokens and bridges: complete where they are used, and found by what people write."""

from __future__ import annotations

import pytest
from web3 import Web3

from lake.errors import ConfigError
from lake.universe import BRIDGES, CHAINS, REPRESENTATIONS, bridge, chain, representation


@pytest.mark.parametrize("row", CHAINS.values(), ids=lambda c: c.name)
def test_finality_and_the_sequencers_feed_are_said_of_every_chain(row):
    assert row.safe_blocks >= 1
    assert row.final_blocks > row.safe_blocks or row.finality == "tag"
    assert row.usual_final_s > 0
    assert row.sequencer_feed is None or row.l1_chain_id is not None, "L1 has no sequencer"
    assert row.l1_chain_id is None or row.sequencer_feed is not None or "sepolia" in row.name, "a roll-up has one"
    for address in (row.sequencer_feed, row.l1_fee_oracle):
        assert address is None or Web3.is_checksum_address(address)


def test_numbers_at_the_protocols_name_one_chain_each():
    for field in ("cctp_domain", "lz_eid"):
        public = [c for c in CHAINS.values() if "sepolia" not in c.name]  # test networks are joined by no bridge here
        given = [getattr(c, field) for c in public]
        assert len(set(given)) == len(given)
        assert None not in given


def test_a_token_of_another_issuer_is_another_asset():
    keys = [(r.chain_id, r.address.lower()) for r in REPRESENTATIONS]
    assert len(set(keys)) == len(keys)
    assert all(Web3.is_checksum_address(r.address) for r in REPRESENTATIONS)
    by_asset = {}
    for r in REPRESENTATIONS:
        assert by_asset.setdefault(r.asset, r.issuer) == r.issuer
        assert r.chain_id in CHAINS
    assert len({(r.asset, r.chain_id) for r in REPRESENTATIONS}) == len(keys)


def test_a_representation_is_found_in_any_case_of_letters_and_only_on_its_chain():
    known = REPRESENTATIONS[0]
    assert representation(known.chain_id, known.address.upper().replace("0X", "0x")) == known
    assert representation(10, known.address) is None


def test_an_unknown_bridge_is_named_with_the_known_ones():
    assert all(b.overdue_s > b.usual_s for b in BRIDGES.values())
    assert bridge("cctp").refund == "none"
    assert bridge("across").refund == "origin"
    with pytest.raises(ConfigError, match=r"'hop' is not known; known are cctp, across"):
        bridge("hop")
    with pytest.raises(ConfigError, match="31338"):
        chain(99)

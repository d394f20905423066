# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A price feed with Chainlink's reading interface, for local chains and tests
@notice Anyone may post a round; two storage slots a read, as an OCR aggregator has.
"""

decimals: public(immutable(uint8))
description: public(String[32])
broken: public(bool)
_round: uint256
_rounds: HashMap[uint256, uint256]  # answer (192-bit two's complement) | updated_at << 192
_MASK: constant(uint256) = 2**192 - 1


@deploy
def __init__(_decimals: uint8, _description: String[32], _answer: int256):
    decimals = _decimals
    self.description = _description
    self._post(_answer, block.timestamp)


@internal
def _post(answer: int256, updated_at: uint256):
    self._round += 1
    self._rounds[self._round] = (convert(convert(answer, bytes32), uint256) & _MASK) | (updated_at << 192)


@external
def post(answer: int256):
    """@notice Append a round with `answer`, updated now."""
    self._post(answer, block.timestamp)


@external
def post_at(answer: int256, updated_at: uint256):
    """@notice Append a round with any time: stale, incomplete (0) or from the future."""
    self._post(answer, updated_at)


@external
def set_broken(on: bool):
    """@notice Make every read revert."""
    self.broken = on


@internal
@view
def _read(round_id: uint256) -> (uint80, int256, uint256, uint256, uint80):
    assert round_id != 0 and round_id <= self._round, "No data present"
    word: uint256 = self._rounds[round_id]
    answer: int256 = convert(convert(word << 64, bytes32), int256) >> 64
    id: uint80 = convert(round_id, uint80)
    return id, answer, word >> 192, word >> 192, id


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    assert not self.broken, "broken"
    return self._read(self._round)


@external
@view
def getRoundData(round_id: uint80) -> (uint80, int256, uint256, uint256, uint80):
    assert not self.broken, "broken"
    return self._read(convert(round_id, uint256))


@external
@view
def latestRound() -> uint256:
    return self._round

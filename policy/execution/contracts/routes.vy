# pragma version 0.4.3
"""
@title Routes over bridges, as the vault keeps them
@notice A route is four words, so that a departure reads little. What left is counted over two neighbouring windows, as
        losses are, in millionths of a whole token: routes are for cash, whose whole tokens are worth about the same.
"""

U4: constant(uint256) = 2**4 - 1
U6: constant(uint256) = 2**6 - 1
U16: constant(uint256) = 2**16 - 1
U32: constant(uint256) = 2**32 - 1
U96: constant(uint256) = 2**96 - 1
LOW: constant(uint256) = 2**160 - 1
MAX_ROUTES: constant(uint256) = 64

# target 160 | kind 4 | decimals of the token 6 | decimals there 6 | fee ceiling in bp 16 | destination 32 |
# least speed 32 bits
# token 160 | most at once 96 bits
# recipient 160 | most in transit 96 bits
# token there 160 | in transit now 96 bits
_routes: HashMap[uint256, uint256[4]]
_rate: uint256  # window in seconds 32 | most that may leave in ANY window 96 | bit a live route 64 bits
_sent: uint256  # window number 32 | sent in the one before 96 | in it 96 bits


@internal
@view
def _counted(window: uint256) -> uint256:
    """@dev What left in this calendar window and the whole one before, millionths of a token."""
    if window == 0:
        return 0
    word: uint256 = self._sent
    number: uint256 = block.timestamp // window
    if word & U32 == number:
        return ((word >> 32) & U96) + (word >> 128)
    if (word & U32) + 1 == number:
        return word >> 128
    return 0


@internal
def _spend(amount: uint256):
    """@dev Book what leaves now within the budget of a window."""
    rate: uint256 = self._rate
    window: uint256 = rate & U32
    assert self._counted(window) + amount <= (rate >> 32) & U96, "rate"
    word: uint256 = self._sent
    number: uint256 = block.timestamp // window
    if word & U32 == number:
        self._sent = word + (amount << 128)
    else:
        before: uint256 = 0
        if (word & U32) + 1 == number:
            before = word >> 128
        self._sent = number | (before << 32) | (amount << 128)


@internal
def _set_rate(window: uint256, budget: uint256):
    """@dev What counts now is carried as a whole into the new window: a change forgives nothing."""
    assert window > 0 and window <= U32 and budget <= U96, "rate"
    old: uint256 = self._rate & U32
    if old != window:
        self._sent = (block.timestamp // window) | (min(self._counted(old), U96) << 128)
    self._rate = window | (budget << 32) | ((self._rate >> 128) << 128)

# pragma version 0.4.3
"""
@title The portfolio: its tokens, their mandated weights, and what holdings are worth
@notice The tokens are fixed for the life of the vault; targets and oracle change through the timelock. The last good
        prices are kept, so that views never fail.
"""

from ethereum.ercs import IERC20

interface Oracle:
    def prices() -> (DynArray[uint256, MAX_TOKENS], uint256): view
    def tokens() -> DynArray[address, MAX_TOKENS]: view

event TargetsSet:
    targets_bps: DynArray[uint256, MAX_TOKENS]

event OracleSet:
    oracle: indexed(address)

MAX_TOKENS: constant(uint256) = 8
BPS: constant(uint256) = 10_000
LOW: constant(uint256) = 2**160 - 1
PRICE_BITS: constant(uint256) = 64
PRICE_MASK: constant(uint256) = 2**64 - 1
GOOD: constant(uint256) = 0

COUNT: immutable(uint256)
ROWS: immutable(uint256[MAX_TOKENS])  # token | decimals << 160; the first is the accounting asset
oracle: public(address)
_targets: uint256  # basis points, 16 bits a token
_last: uint256[2]  # last good prices, four to a word


@deploy
def __init__(
    _tokens: DynArray[address, MAX_TOKENS],
    _decimals: DynArray[uint256, MAX_TOKENS],
    _targets: DynArray[uint256, MAX_TOKENS],
    _oracle: address,
):
    rows: uint256[MAX_TOKENS] = empty(uint256[MAX_TOKENS])
    assert len(_tokens) >= 2 and len(_decimals) == len(_tokens), "tokens"
    for i: uint256 in range(len(_tokens), bound=MAX_TOKENS):
        assert _tokens[i] != empty(address) and _decimals[i] <= 18, "tokens"
        for j: uint256 in range(i, bound=MAX_TOKENS):
            assert _tokens[j] != _tokens[i], "tokens"
        rows[i] = convert(_tokens[i], uint256) | (_decimals[i] << 160)
    COUNT = len(_tokens)
    ROWS = rows
    assert len(_targets) == len(_tokens), "targets"
    self._set_targets(_targets)
    self._set_oracle(_oracle)


@internal
def _set_targets(targets_bps: DynArray[uint256, MAX_TOKENS]):
    total: uint256 = 0
    word: uint256 = 0
    for i: uint256 in range(len(targets_bps), bound=MAX_TOKENS):
        total += targets_bps[i]
        word |= targets_bps[i] << (16 * i)
    assert total == BPS, "targets"
    self._targets = word
    log TargetsSet(targets_bps=targets_bps)


@internal
def _set_oracle(_oracle: address):
    prices: DynArray[uint256, MAX_TOKENS] = []
    code: uint256 = 0
    prices, code = staticcall Oracle(_oracle).prices()
    assert code == GOOD, "oracle"
    covered: DynArray[address, MAX_TOKENS] = staticcall Oracle(_oracle).tokens()
    assert len(covered) == COUNT, "oracle"
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        assert covered[i] == self._token(i), "oracle"
    self.oracle = _oracle
    self._remember(prices)
    log OracleSet(oracle=_oracle)


@external
def set_targets(targets_bps: DynArray[uint256, MAX_TOKENS]):
    """@notice Set the mandated weights, which sum to 10,000; through the timelock: the keeper cannot move them."""
    assert msg.sender == self, "timelock"
    assert len(targets_bps) == COUNT, "targets"
    self._set_targets(targets_bps)


@external
def set_oracle(_oracle: address):
    """@notice Move to another oracle over the same tokens, whose prices are all good now; through the timelock."""
    assert msg.sender == self, "timelock"
    self._set_oracle(_oracle)


@external
@view
def tokens() -> (DynArray[address, MAX_TOKENS], DynArray[uint256, MAX_TOKENS], DynArray[uint256, MAX_TOKENS]):
    """@notice Tokens in order (the first is the accounting asset), their decimals and their targets in basis points."""
    addresses: DynArray[address, MAX_TOKENS] = []
    scales: DynArray[uint256, MAX_TOKENS] = []
    targets: DynArray[uint256, MAX_TOKENS] = []
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        addresses.append(self._token(i))
        scales.append(ROWS[i] >> 160)
        targets.append((self._targets >> (16 * i)) & 65_535)
    return addresses, scales, targets


@external
@view
def last_price(i: uint256) -> uint256:
    """@notice The last good price of token `i`, USD x 1e8."""
    return self._last_good(i)


@external
def poke():
    """@notice Store the current prices as last good ones; refused unless all are good."""
    prices: DynArray[uint256, MAX_TOKENS] = []
    code: uint256 = 0
    prices, code = self._prices()
    assert code == GOOD, "oracle"
    self._remember(prices)


@internal
@view
def _token(i: uint256) -> address:
    return convert(ROWS[i] & LOW, address)


@internal
@view
def _last_good(i: uint256) -> uint256:
    return (self._last[i // 4] >> (PRICE_BITS * (i % 4))) & PRICE_MASK


@internal
@view
def _prices() -> (DynArray[uint256, MAX_TOKENS], uint256):
    """@dev All prices and the oracle's verdict; where a price is not good its last good one stands in."""
    prices: DynArray[uint256, MAX_TOKENS] = []
    code: uint256 = 0
    prices, code = staticcall Oracle(self.oracle).prices()
    if code != GOOD:
        for i: uint256 in range(COUNT, bound=MAX_TOKENS):
            if prices[i] == 0:
                prices[i] = self._last_good(i)
    return prices, code


@internal
def _remember(prices: DynArray[uint256, MAX_TOKENS]):
    """@dev Keep `prices`, all good, as the last good ones."""
    words: uint256[2] = empty(uint256[2])
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        words[i // 4] |= prices[i] << (PRICE_BITS * (i % 4))
    self._last[0] = words[0]
    if COUNT > 4:
        self._last[1] = words[1]


@internal
@view
def _balances() -> DynArray[uint256, MAX_TOKENS]:
    out: DynArray[uint256, MAX_TOKENS] = []
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        out.append(staticcall IERC20(self._token(i)).balanceOf(self))
    return out


@internal
@view
def _value(i: uint256, amount: uint256, price: uint256) -> uint256:
    """@dev USD x 1e18 of `amount` raw units, rounded down."""
    return amount * price * 10**10 // 10 ** (ROWS[i] >> 160)


@internal
@view
def _total(balances: DynArray[uint256, MAX_TOKENS], prices: DynArray[uint256, MAX_TOKENS]) -> uint256:
    """@dev USD x 1e18 of the whole portfolio."""
    total: uint256 = 0
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        total += self._value(i, balances[i], prices[i])
    return total


@internal
@view
def _in_asset(usd: uint256, asset_price: uint256) -> uint256:
    """@dev USD x 1e18 in raw units of the accounting asset (token 0), rounded down; 0 without a price."""
    if asset_price == 0:
        return 0
    return usd * 10 ** (ROWS[0] >> 160) // (asset_price * 10**10)


@internal
@view
def _distance(
    balances: DynArray[uint256, MAX_TOKENS], prices: DynArray[uint256, MAX_TOKENS], total: uint256
) -> uint256:
    """@dev Sum over tokens of abs(weight - target) x 1e9, each rounded down; 0 to 2e9."""
    targets: uint256 = self._targets
    distance: uint256 = 0
    for i: uint256 in range(COUNT, bound=MAX_TOKENS):
        held: uint256 = self._value(i, balances[i], prices[i]) * BPS
        wanted: uint256 = ((targets >> (16 * i)) & 65_535) * total
        gap: uint256 = held - wanted if held > wanted else wanted - held
        distance += gap * 10**9 // (total * BPS)
    return distance

# pragma version 0.4.3
"""
@title The portfolio: its tokens, their mandated weights, and what holdings are worth
@notice Tokens, targets and oracle change through the timelock only; the first token, the accounting asset, never does.
        The last good prices are kept: they stand in where a price is not good, so that views never fail and the tokens
        whose prices are good can still be traded.
"""

from ethereum.ercs import IERC20

interface Oracle:
    def quotes() -> DynArray[uint256, MAX_TOKENS]: view
    def tokens() -> DynArray[address, MAX_TOKENS]: view

event TargetsSet:
    targets_bps: DynArray[uint256, MAX_TOKENS]

event TokensSet:
    tokens: DynArray[address, MAX_TOKENS]

event OracleSet:
    oracle: indexed(address)

MAX_TOKENS: constant(uint256) = 8
BPS: constant(uint256) = 10_000
LOW: constant(uint256) = 2**160 - 1
U64: constant(uint256) = 2**64 - 1
MOST: constant(uint256) = 2**128 - 1  # of a token's raw units; what goes beyond is not counted
MOST_USD: constant(uint256) = 2**190 - 1  # NAV saturates here, so that no view overflows
DUST_USD: constant(uint256) = 10**18  # a token without target, worth less than this, needs no price
# a quote: low price | high << 64 | the feed's own << 128 | verdict << 192; prices are USD x 1e8, verdict 0 is good
LOWER: constant(uint256) = 0
HIGHER: constant(uint256) = 64
FEED: constant(uint256) = 128
CLAIMED: constant(uint256) = 192  # bit of a row: part of the token is set aside for claims
SLACK: constant(uint256) = 200  # place in a row: how far the weight may lie from its target, bp

_rows: uint256[MAX_TOKENS]  # token | decimals << 160 | target in bp << 168 | (first row: count << 184) | claimed << 192 | slack << 200
_last: uint256[2]  # last good prices, four to a word
oracle: public(address)
set_aside: public(HashMap[address, uint256])  # raw units of a token that belong to claims, not to the portfolio
was_held: public(HashMap[address, bool])  # has been in the portfolio: never swept


@internal
def _set_tokens(
    tokens: DynArray[address, MAX_TOKENS],
    scales: DynArray[uint256, MAX_TOKENS],
    targets: DynArray[uint256, MAX_TOKENS],
):
    """@dev Writes the rows. What `decimals()` of a token says, where it says something, must be what is given."""
    n: uint256 = len(tokens)
    assert n >= 2 and len(scales) == n, "tokens"
    assert len(targets) == n, "targets"
    rows: uint256[MAX_TOKENS] = empty(uint256[MAX_TOKENS])
    for i: uint256 in range(n, bound=MAX_TOKENS):
        token: address = tokens[i]
        assert token != empty(address) and token != self and scales[i] <= 18, "tokens"
        for j: uint256 in range(i, bound=MAX_TOKENS):
            assert tokens[j] != token, "tokens"
        ok: bool = False
        data: Bytes[32] = b""
        ok, data = raw_call(
            token, method_id("decimals()"), max_outsize=32, is_static_call=True, revert_on_failure=False
        )
        if ok and len(data) == 32:
            assert convert(data, uint256) == scales[i], "decimals"
        rows[i] = convert(token, uint256) | (scales[i] << 160)
        if self.set_aside[token] != 0:
            rows[i] |= 1 << CLAIMED
        self.was_held[token] = True
    rows[0] |= n << 184
    self._rows = rows
    log TokensSet(tokens=tokens)
    self._set_targets(targets)


@internal
def _set_targets(targets_bps: DynArray[uint256, MAX_TOKENS]):
    total: uint256 = 0
    for i: uint256 in range(len(targets_bps), bound=MAX_TOKENS):
        total += targets_bps[i]
        self._rows[i] = (self._rows[i] & ~(65_535 << 168)) | (targets_bps[i] << 168)
        assert targets_bps[i] <= BPS, "targets"
    assert total == BPS, "targets"
    log TargetsSet(targets_bps=targets_bps)


@internal
def _set_oracle(_oracle: address):
    """@dev Covers the same tokens in order; every price good, but of tokens that need none."""
    rows: DynArray[uint256, MAX_TOKENS] = self._tokens()
    covered: DynArray[address, MAX_TOKENS] = staticcall Oracle(_oracle).tokens()
    assert len(covered) == len(rows), "oracle"
    for i: uint256 in range(len(rows), bound=MAX_TOKENS):
        assert covered[i] == convert(rows[i] & LOW, address), "oracle"
    self.oracle = _oracle
    quotes: DynArray[uint256, MAX_TOKENS] = self._quotes(len(rows))
    assert self._all_good(rows, self._balances(rows), quotes), "oracle"
    self._remember(quotes)
    log OracleSet(oracle=_oracle)


@internal
@view
def _tokens() -> DynArray[uint256, MAX_TOKENS]:
    """@dev The rows of the tokens in the portfolio, in order."""
    first: uint256 = self._rows[0]
    rows: DynArray[uint256, MAX_TOKENS] = [first]
    for i: uint256 in range(1, (first >> 184) & 255, bound=MAX_TOKENS):
        rows.append(self._rows[i])
    return rows


@internal
@view
def _last_good(i: uint256) -> uint256:
    return (self._last[i // 4] >> (64 * (i % 4))) & U64


@internal
@view
def _quotes(n: uint256) -> DynArray[uint256, MAX_TOKENS]:
    """@dev The oracle's quotes; where one is not good the last good price stands in on all sides, marked as bad."""
    quotes: DynArray[uint256, MAX_TOKENS] = staticcall Oracle(self.oracle).quotes()
    for i: uint256 in range(n, bound=MAX_TOKENS):
        if quotes[i] >> 192 != 0:
            last: uint256 = self._last_good(i)
            quotes[i] = last | (last << HIGHER) | (last << FEED) | ((quotes[i] >> 192) << 192)
    return quotes


@internal
@view
def _all_good(
    rows: DynArray[uint256, MAX_TOKENS],
    balances: DynArray[uint256, MAX_TOKENS],
    quotes: DynArray[uint256, MAX_TOKENS],
) -> bool:
    """@dev Whether flows may be priced: every price is good but of tokens without target and hardly any worth."""
    for i: uint256 in range(len(rows), bound=MAX_TOKENS):
        if quotes[i] >> 192 != 0:
            if (rows[i] >> 168) & 65_535 != 0 or self._value(rows[i], balances[i], quotes[i] & U64) >= DUST_USD:
                return False
    return True


@internal
def _remember(quotes: DynArray[uint256, MAX_TOKENS]):
    """@dev Keep the feeds' own prices as the last good ones; a stand-in stays what it was."""
    words: uint256[2] = empty(uint256[2])
    for i: uint256 in range(len(quotes), bound=MAX_TOKENS):
        words[i // 4] |= ((quotes[i] >> FEED) & U64) << (64 * (i % 4))
    self._last[0] = words[0]
    if len(quotes) > 4:
        self._last[1] = words[1]


@internal
@view
def _balance(row: uint256) -> uint256:
    """@dev Raw units of a token that belong to the portfolio: what is there less what is set aside for claims."""
    token: address = convert(row & LOW, address)
    held: uint256 = min(staticcall IERC20(token).balanceOf(self), MOST)
    if (row >> CLAIMED) & 1 != 0:
        held -= min(held, self.set_aside[token])
    return held


@internal
@view
def _balances(rows: DynArray[uint256, MAX_TOKENS]) -> DynArray[uint256, MAX_TOKENS]:
    out: DynArray[uint256, MAX_TOKENS] = []
    for row: uint256 in rows:
        out.append(self._balance(row))
    return out


@internal
@pure
def _value(row: uint256, amount: uint256, price: uint256) -> uint256:
    """@dev USD x 1e18 of `amount` raw units (at most MOST), rounded down."""
    return amount * price * 10**10 // 10 ** ((row >> 160) & 255)


@internal
@pure
def _total(
    rows: DynArray[uint256, MAX_TOKENS],
    balances: DynArray[uint256, MAX_TOKENS],
    quotes: DynArray[uint256, MAX_TOKENS],
) -> uint256:
    """@dev USD x 1e18 of the whole portfolio at the feeds' own prices; saturates."""
    total: uint256 = 0
    for i: uint256 in range(len(rows), bound=MAX_TOKENS):
        total += self._value(rows[i], balances[i], (quotes[i] >> FEED) & U64)
    return min(total, MOST_USD)


@internal
@pure
def _nav(
    rows: DynArray[uint256, MAX_TOKENS],
    balances: DynArray[uint256, MAX_TOKENS],
    quotes: DynArray[uint256, MAX_TOKENS],
    side: uint256,
) -> uint256:
    """
    @dev NAV in raw units of the accounting asset, rounded down: its own balance, and the others at the prices of one
         side against the asset's price of the other side; saturates. 0 without a price of the asset
    """
    against: uint256 = FEED
    if side != FEED:
        against = HIGHER - side
    price: uint256 = (quotes[0] >> against) & U64
    if price == 0:
        return 0
    others: uint256 = 0
    for i: uint256 in range(1, len(rows), bound=MAX_TOKENS):
        others += self._value(rows[i], balances[i], (quotes[i] >> side) & U64)
    return balances[0] + min(others, MOST_USD) * 10 ** ((rows[0] >> 160) & 255) // (price * 10**10)


@internal
@pure
def _distance(
    rows: DynArray[uint256, MAX_TOKENS],
    balances: DynArray[uint256, MAX_TOKENS],
    quotes: DynArray[uint256, MAX_TOKENS],
    total: uint256,
) -> uint256:
    """@dev Sum over tokens of what abs(weight - target) exceeds its slack by, x 1e9, each rounded down; 0 to 2e9."""
    distance: uint256 = 0
    for i: uint256 in range(len(rows), bound=MAX_TOKENS):
        held: uint256 = self._value(rows[i], balances[i], (quotes[i] >> FEED) & U64) * BPS
        wanted: uint256 = ((rows[i] >> 168) & 65_535) * total
        gap: uint256 = held - wanted if held > wanted else wanted - held
        free: uint256 = (rows[i] >> SLACK) * total
        if gap > free:
            distance += (gap - free) * 10**9 // (total * BPS)
    return distance


# ---------------------------------------------------------------- the owner's changes, and views


@external
def set_targets(targets_bps: DynArray[uint256, MAX_TOKENS]):
    """@notice Set the mandated weights, which sum to 10,000; through the timelock: the keeper cannot move them."""
    assert msg.sender == self, "timelock"
    assert len(targets_bps) == (self._rows[0] >> 184) & 255, "targets"
    self._set_targets(targets_bps)


@external
def set_oracle(_oracle: address):
    """@notice Move to another oracle over the same tokens, whose prices are good now; through the timelock."""
    assert msg.sender == self, "timelock"
    self._set_oracle(_oracle)


@internal
def _replace_tokens(
    tokens: DynArray[address, MAX_TOKENS],
    scales: DynArray[uint256, MAX_TOKENS],
    targets_bps: DynArray[uint256, MAX_TOKENS],
    _oracle: address,
):
    """@dev Another set of tokens with the same accounting asset; who leaves holds no more than dust."""
    old: DynArray[uint256, MAX_TOKENS] = self._tokens()
    assert len(tokens) > 0 and tokens[0] == convert(old[0] & LOW, address), "asset"
    quotes: DynArray[uint256, MAX_TOKENS] = self._quotes(len(old))
    for i: uint256 in range(len(old), bound=MAX_TOKENS):
        if convert(old[i] & LOW, address) not in tokens:
            assert self._value(old[i], self._balance(old[i]), (quotes[i] >> FEED) & U64) < DUST_USD, "held"
    self._set_tokens(tokens, scales, targets_bps)
    self._last = empty(uint256[2])
    self._set_oracle(_oracle)


@external
@view
def tokens() -> (DynArray[address, MAX_TOKENS], DynArray[uint256, MAX_TOKENS], DynArray[uint256, MAX_TOKENS]):
    """@notice Tokens in order (the first is the accounting asset), their decimals and their targets in basis points."""
    addresses: DynArray[address, MAX_TOKENS] = []
    scales: DynArray[uint256, MAX_TOKENS] = []
    targets: DynArray[uint256, MAX_TOKENS] = []
    rows: DynArray[uint256, MAX_TOKENS] = self._tokens()
    for row: uint256 in rows:
        addresses.append(convert(row & LOW, address))
        scales.append((row >> 160) & 255)
        targets.append((row >> 168) & 65_535)
    return addresses, scales, targets


@external
@view
def last_price(i: uint256) -> uint256:
    """@notice The last good price of token `i`, USD x 1e8."""
    return self._last_good(i)


@external
@view
def last_prices() -> uint256[MAX_TOKENS]:
    """@notice The last good prices of all tokens, USD x 1e8."""
    out: uint256[MAX_TOKENS] = empty(uint256[MAX_TOKENS])
    for i: uint256 in range(MAX_TOKENS):
        out[i] = self._last_good(i)
    return out


@external
@view
def balances() -> DynArray[uint256, MAX_TOKENS]:
    """@notice Raw units of every token that belong to the portfolio, without what is set aside for claims."""
    return self._balances(self._tokens())


@external
def poke():
    """@notice Store the current prices as last good ones; refused unless all are good."""
    rows: DynArray[uint256, MAX_TOKENS] = self._tokens()
    quotes: DynArray[uint256, MAX_TOKENS] = self._quotes(len(rows))
    assert self._all_good(rows, self._balances(rows), quotes), "oracle"
    self._remember(quotes)

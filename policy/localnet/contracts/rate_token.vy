# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A yield-bearing token's exchange rate, as wstETH tells it; for local chains and tests
@notice The rate grows by `growth` a year (x 1e18) and falls only by a slashing. Balances do not change by themselves.
"""

admin: public(address)
decimals: public(constant(uint8)) = 18
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
growth: public(uint256)
_rate: uint256
_at: uint256
WAD: constant(uint256) = 10**18
YEAR_S: constant(uint256) = 365 * 86_400


@deploy
def __init__(_rate: uint256, _growth: uint256):
    self.admin = msg.sender
    self.growth = _growth
    self._rate = _rate
    self._at = block.timestamp


@internal
@view
def _now() -> uint256:
    return self._rate + self._rate * self.growth // WAD * (block.timestamp - self._at) // YEAR_S


@external
@view
def stEthPerToken() -> uint256:
    """@notice Underlying a token, x 1e18."""
    return self._now()


@external
def mint(receiver: address, amount: uint256):
    self.totalSupply += amount
    self.balanceOf[receiver] += amount


@external
def transfer(receiver: address, amount: uint256) -> bool:
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[receiver] += amount
    return True


@external
def slash(bps: uint256):
    """@notice Lower the rate."""
    assert msg.sender == self.admin and bps <= 10_000, "admin"
    self._rate = self._now() * (10_000 - bps) // 10_000
    self._at = block.timestamp

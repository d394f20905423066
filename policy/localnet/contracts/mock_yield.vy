# pragma version 0.4.3
"""
A yield-bearing token of the local chain: shares of ERC-4626 over one asset, with a rate that is set, and a halt.

It keeps the standard's rounding (against the caller) and holds the asset itself; ``earn`` and ``lose`` move its rate.
"""

interface Asset:
    def balanceOf(owner: address) -> uint256: view
    def transfer(to: address, amount: uint256) -> bool: nonpayable
    def transferFrom(owner: address, to: address, amount: uint256) -> bool: nonpayable
    def mint(to: address, amount: uint256): nonpayable
    def decimals() -> uint8: view

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

asset: public(immutable(address))
decimals: public(immutable(uint8))
symbol: public(String[32])
name: public(String[32])
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
halted: public(bool)


@deploy
def __init__(of: address, label: String[32]):
    asset = of
    decimals = staticcall Asset(of).decimals()
    self.symbol = label
    self.name = label


@external
@view
def totalAssets() -> uint256:
    return self._held()


@external
@view
def convertToAssets(shares: uint256) -> uint256:
    return self._assets(shares)


@external
@view
def convertToShares(assets: uint256) -> uint256:
    return self._shares(assets)


@external
@view
def previewDeposit(assets: uint256) -> uint256:
    return self._shares(assets)


@external
@view
def previewRedeem(shares: uint256) -> uint256:
    return self._assets(shares)


@external
@view
def maxDeposit(receiver: address) -> uint256:
    return 0 if self.halted else max_value(uint256)


@external
@view
def maxRedeem(owner: address) -> uint256:
    return 0 if self.halted else self.balanceOf[owner]


@external
def deposit(assets: uint256, receiver: address) -> uint256:
    assert not self.halted, "halted"
    shares: uint256 = self._shares(assets)
    assert extcall Asset(asset).transferFrom(msg.sender, self, assets, default_return_value=True)
    self.totalSupply += shares
    self.balanceOf[receiver] += shares
    log Transfer(sender=empty(address), receiver=receiver, value=shares)
    return shares


@external
def redeem(shares: uint256, receiver: address, owner: address) -> uint256:
    assert not self.halted, "halted"
    if msg.sender != owner:
        self.allowance[owner][msg.sender] -= shares
    assets: uint256 = self._assets(shares)
    self.balanceOf[owner] -= shares
    self.totalSupply -= shares
    log Transfer(sender=owner, receiver=empty(address), value=shares)
    assert extcall Asset(asset).transfer(receiver, assets, default_return_value=True)
    return assets


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def earn(amount: uint256):
    """
    @notice Raise the rate: the vault's assets grow by ``amount`` of new money.
    """
    extcall Asset(asset).mint(self, amount)


@external
def lose(amount: uint256):
    """
    @notice Lower the rate: ``amount`` of the assets is gone.
    """
    assert extcall Asset(asset).transfer(0x000000000000000000000000000000000000dEaD, amount, default_return_value=True)


@external
def halt(on: bool):
    self.halted = on


@internal
def _move(sender: address, receiver: address, amount: uint256):
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)


@internal
@view
def _held() -> uint256:
    return staticcall Asset(asset).balanceOf(self)


@internal
@view
def _assets(shares: uint256) -> uint256:
    return shares * (self._held() + 1) // (self.totalSupply + 1)


@internal
@view
def _shares(assets: uint256) -> uint256:
    return assets * (self.totalSupply + 1) // (self._held() + 1)

# pragma version 0.4.3
"""
@title The vault's share token: ERC-20 with an optional allow-list of holders
@notice In permissioned mode only listed accounts may receive shares; a holder struck off the list can still leave.
"""

from ethereum.ercs import IERC20

implements: IERC20

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

event HolderSet:
    account: indexed(address)
    allowed: bool

event PermissionedSet:
    permissioned: bool

name: public(String[64])
symbol: public(String[32])
decimals: public(immutable(uint8))
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
permissioned: public(bool)
holder_allowed: public(HashMap[address, bool])


@deploy
def __init__(_name: String[64], _symbol: String[32], _decimals: uint8, _holders: DynArray[address, 32]):
    self.name = _name
    self.symbol = _symbol
    decimals = _decimals
    self.permissioned = len(_holders) > 0
    for account: address in _holders:
        self.holder_allowed[account] = True
        log HolderSet(account=account, allowed=True)


@internal
@view
def _may_hold(account: address) -> bool:
    return account != empty(address) and (not self.permissioned or self.holder_allowed[account])


@internal
def _move(sender: address, receiver: address, amount: uint256):
    assert self._may_hold(receiver), "holder"
    assert self.balanceOf[sender] >= amount, "balance"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)


@internal
def _spend(owner: address, spender: address, amount: uint256):
    if owner != spender:
        allowed: uint256 = self.allowance[owner][spender]
        if allowed != max_value(uint256):
            assert allowed >= amount, "allowance"
            self.allowance[owner][spender] = allowed - amount


@internal
def _mint(receiver: address, amount: uint256):
    assert self._may_hold(receiver), "holder"
    self.totalSupply += amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@internal
def _burn(owner: address, amount: uint256):
    assert self.balanceOf[owner] >= amount, "balance"
    self.balanceOf[owner] -= amount
    self.totalSupply -= amount
    log Transfer(sender=owner, receiver=empty(address), value=amount)


@external
@nonreentrant
def transfer(receiver: address, amount: uint256) -> bool:
    self._move(msg.sender, receiver, amount)
    return True


@external
@nonreentrant
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    self._spend(sender, msg.sender, amount)
    self._move(sender, receiver, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def set_permissioned(on: bool):
    """@notice Turn the allow-list on or off; through the timelock."""
    assert msg.sender == self, "timelock"
    self.permissioned = on
    log PermissionedSet(permissioned=on)


@external
def set_holder(account: address, allowed: bool):
    """@notice List an account or strike it off; through the timelock."""
    assert msg.sender == self, "timelock"
    self.holder_allowed[account] = allowed
    log HolderSet(account=account, allowed=allowed)

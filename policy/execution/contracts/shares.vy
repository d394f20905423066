# pragma version 0.4.3
"""
@title The vault's share token: ERC-20 with ERC-2612 permits, an optional allow-list of holders, and a hold
@notice In permissioned mode only listed accounts may receive shares; a holder struck off the list can still leave.
        Where one beneficiary is named, nobody else may receive any.
        Who buys for himself cannot part with any of his shares within `hold_s` of it. What others buy for him lies in
        a lot of its own for `hold_s` to twice that, and touches none of his other shares. Shares received by transfer
        are free: whoever sent them had held them long enough.
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

U40: constant(uint256) = 2**40 - 1
U32: constant(uint256) = 2**32 - 1
ALL: constant(uint256) = max_value(uint256)
DOMAIN: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
PERMIT: constant(bytes32) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
HALF_N: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

name: public(String[64])
symbol: public(String[32])
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
_gate: uint256  # only listed accounts may hold 1 bit | (7 bits) | who alone may hold, 0 for anybody 160 bits
holder_allowed: public(HashMap[address, bool])
# hold_s 32 | entry fee 16 | exit fee 16 | management fee 16 | performance fee 16 bits (bp) | accrued at 40 bits
_terms: uint256
_times: HashMap[address, uint256]  # last own purchase 40 | opening of the newer lot 40 | of the older lot 40 bits
_lots: HashMap[address, uint256[2]]  # shares others bought for an account: the newer lot, the older lot


@internal
def _set_up(_name: String[64], _symbol: String[32], _holders: DynArray[address, 32]):
    self.name = _name
    self.symbol = _symbol
    if len(_holders) > 0:
        self._gate = 1
    for account: address in _holders:
        self.holder_allowed[account] = True
        log HolderSet(account=account, allowed=True)


@internal
@view
def _may_hold(account: address) -> bool:
    gate: uint256 = self._gate
    if gate > 1 and gate >> 8 != convert(account, uint256):
        return False
    return account != empty(address) and account != self and (gate & 1 == 0 or self.holder_allowed[account])


@external
@view
def permissioned() -> bool:
    """@notice Whether only listed accounts may hold shares."""
    return self._gate & 1 != 0


@internal
@view
def _free(account: address) -> uint256:
    """@dev Shares `account` may part with now."""
    held: uint256 = self.balanceOf[account]
    hold: uint256 = self._terms & U32
    times: uint256 = self._times[account]
    if times == 0:
        return held
    if block.timestamp < (times & U40) + hold:
        return 0
    locked: uint256 = 0
    if block.timestamp < ((times >> 40) & U40) + 2 * hold:
        locked = self._lots[account][0]
    if block.timestamp < (times >> 80) + 2 * hold:
        locked += self._lots[account][1]
    return held - min(held, locked)


@internal
def _buy(receiver: address, amount: uint256):
    """@dev Mint what the caller has paid for, and start its hold."""
    assert self._may_hold(receiver) and (msg.sender == receiver or self._may_hold(msg.sender)), "holder"
    hold: uint256 = self._terms & U32
    if hold != 0:
        times: uint256 = self._times[receiver]
        if msg.sender == receiver:
            self._times[receiver] = ((times >> 40) << 40) | block.timestamp
        elif block.timestamp < ((times >> 40) & U40) + hold:
            self._lots[receiver][0] += amount
        else:
            self._lots[receiver][1] = self._lots[receiver][0]
            self._lots[receiver][0] = amount
            self._times[receiver] = (times & U40) | (block.timestamp << 40) | (((times >> 40) & U40) << 80)
    self._mint(receiver, amount)


@internal
def _mint(receiver: address, amount: uint256):
    self.totalSupply += amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@internal
def _move(sender: address, receiver: address, amount: uint256):
    assert self._may_hold(receiver), "holder"
    self._part(sender, amount)
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)


@internal
def _part(owner: address, amount: uint256):
    held: uint256 = self.balanceOf[owner]
    assert held >= amount, "balance"
    assert self._free(owner) >= amount, "hold"
    self.balanceOf[owner] = held - amount


@internal
def _spend(owner: address, spender: address, amount: uint256):
    if owner != spender:
        allowed: uint256 = self.allowance[owner][spender]
        if allowed != ALL:
            assert allowed >= amount, "allowance"
            self.allowance[owner][spender] = allowed - amount


@internal
def _burn(owner: address, amount: uint256):
    self._part(owner, amount)
    self.totalSupply -= amount
    log Transfer(sender=owner, receiver=empty(address), value=amount)


@internal
def _approve(owner: address, spender: address, amount: uint256):
    self.allowance[owner][spender] = amount
    log Approval(owner=owner, spender=spender, value=amount)


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
    self._approve(msg.sender, spender, amount)
    return True


@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN, keccak256(self.name), keccak256("1"), chain.id, self))


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """@notice EIP-712 domain of permits: this vault's name, version 1, this chain, this vault."""
    return self._domain()


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    """@notice ERC-2612: an approval by signature."""
    assert block.timestamp <= deadline, "deadline"
    assert owner != empty(address) and convert(s, uint256) <= HALF_N, "permit"
    nonce: uint256 = self.nonces[owner]
    body: bytes32 = keccak256(abi_encode(PERMIT, owner, spender, amount, nonce, deadline))
    assert ecrecover(keccak256(concat(b"\x19\x01", self._domain(), body)), v, r, s) == owner, "permit"
    self.nonces[owner] = nonce + 1
    self._approve(owner, spender, amount)


@external
@view
def free_shares(account: address) -> uint256:
    """@notice Shares `account` may transfer or redeem now: those no hold lies on."""
    return self._free(account)


@external
@view
def held_until(account: address) -> uint256:
    """@notice When all shares of `account` that were bought so far are free, unix seconds; 0 if they always were."""
    times: uint256 = self._times[account]
    if times == 0:
        return 0
    hold: uint256 = self._terms & U32
    gift: uint256 = (times >> 40) & U40
    return max((times & U40) + hold, gift + 2 * hold if gift != 0 else 0)


@external
def set_permissioned(on: bool):
    """@notice Turn the allow-list on or off; through the timelock."""
    assert msg.sender == self, "timelock"
    self._gate = ((self._gate >> 1) << 1) | convert(on, uint256)
    log PermissionedSet(permissioned=on)


@external
def set_holder(account: address, allowed: bool):
    """@notice List an account or strike it off; through the timelock."""
    assert msg.sender == self, "timelock"
    self.holder_allowed[account] = allowed
    log HolderSet(account=account, allowed=allowed)

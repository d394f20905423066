# pragma version 0.4.3
# pragma evm-version cancun
"""
@title An ERC-20 anyone may mint, which can be told to misbehave, for local chains and tests
@notice Faults: a fee on every transfer, a silent failure (returns false, moves nothing), no return value, a call made
        in the middle of a transfer (re-entrance), a pause, a blacklist, shares rounded down as in a rebasing token,
        a sale that reverts or is taxed, balances that grow with time; and a symbol of 32 bytes.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

name: public(String[32])
_symbol: String[16]
_short: bool  # symbol() answers bytes32
decimals: public(immutable(uint8))
totalSupply: public(uint256)
_held: HashMap[address, uint256]
allowance: public(HashMap[address, HashMap[address, uint256]])

NORMAL: constant(uint256) = 0
FEE: constant(uint256) = 1  # argument: basis points burnt of every transfer
RETURNS_FALSE: constant(uint256) = 2
NO_RETURN: constant(uint256) = 3
REENTERS: constant(uint256) = 4  # calls `hook` with `hook_data` once a transfer

PAUSED: constant(uint256) = 5
BLACKLIST: constant(uint256) = 6  # `hook` neither sends nor receives
SHARES: constant(uint256) = 7  # a transfer moves one unit less than asked, as stETH's rounding does
NO_SALE: constant(uint256) = 8  # nothing can be sent to `hook`
SALE_FEE: constant(uint256) = 9  # argument: basis points burnt of what is sent to `hook`
GROWS: constant(uint256) = 10  # argument: basis points a day that every balance grows

fault: public(uint256)
fault_argument: public(uint256)
hook: public(address)
hook_data: Bytes[2048]
_since: uint256
hook_succeeded: public(uint256)  # how many re-entrant calls went through


@deploy
def __init__(_name: String[32], _symbol: String[16], _decimals: uint8):
    self.name = _name
    self._symbol = _symbol
    decimals = _decimals


@external
def set_fault(kind: uint256, argument: uint256, hook: address, hook_data: Bytes[2048]):
    """@notice Choose how the token misbehaves from now on."""
    self.fault = kind
    self.fault_argument = argument
    self.hook = hook
    self.hook_data = hook_data
    self._since = block.timestamp


@external
def set_short_symbol(on: bool):
    """@notice Let symbol() answer 32 bytes, as tokens of before 2018 do."""
    self._short = on


@external
@view
@raw_return
def symbol() -> Bytes[96]:
    if self._short:
        return slice(concat(convert(self._symbol, Bytes[16]), empty(bytes32)), 0, 32)
    return abi_encode(self._symbol)


@external
@view
def balanceOf(holder: address) -> uint256:
    amount: uint256 = self._held[holder]
    if self.fault == GROWS:
        amount += amount * self.fault_argument * (block.timestamp - self._since) // (86_400 * 10_000)
    return amount


@external
def mint(receiver: address, amount: uint256):
    """@notice Create `amount` raw units for `receiver`."""
    self.totalSupply += amount
    self._held[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@external
def burn(amount: uint256):
    """@notice Destroy `amount` raw units of the caller's."""
    self.totalSupply -= amount
    self._held[msg.sender] -= amount
    log Transfer(sender=msg.sender, receiver=empty(address), value=amount)


@internal
def _move(sender: address, receiver: address, amount: uint256) -> Bytes[32]:
    kind: uint256 = self.fault
    if kind == RETURNS_FALSE:
        return abi_encode(False)
    assert kind != PAUSED, "Pausable: paused"
    assert kind != BLACKLIST or self.hook not in [sender, receiver], "blacklisted"
    assert kind != NO_SALE or receiver != self.hook, "TRANSFER_FAILED"
    got: uint256 = amount
    if kind == SHARES and amount > 0:
        log Transfer(sender=sender, receiver=receiver, value=amount - 1)
        self._held[sender] -= amount - 1
        self._held[receiver] += amount - 1
        return abi_encode(True)
    if kind == FEE or (kind == SALE_FEE and receiver == self.hook):
        got -= amount * self.fault_argument // 10_000
        self.totalSupply -= amount - got
    self._held[sender] -= amount
    self._held[receiver] += got
    log Transfer(sender=sender, receiver=receiver, value=got)
    if kind == REENTERS:
        if raw_call(self.hook, self.hook_data, revert_on_failure=False):
            self.hook_succeeded += 1
    if kind == NO_RETURN:
        return b""
    return abi_encode(True)


@external
@raw_return
def transfer(receiver: address, amount: uint256) -> Bytes[32]:
    return self._move(msg.sender, receiver, amount)


@external
@raw_return
def transferFrom(sender: address, receiver: address, amount: uint256) -> Bytes[32]:
    if self.fault != RETURNS_FALSE:
        self.allowance[sender][msg.sender] -= amount
    return self._move(sender, receiver, amount)


@external
@raw_return
def approve(spender: address, amount: uint256) -> Bytes[32]:
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    if self.fault == NO_RETURN:
        return b""
    return abi_encode(True)

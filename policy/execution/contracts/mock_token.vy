# pragma version 0.4.3
# pragma evm-version cancun
"""
@title An ERC-20 anyone may mint, which can be told to misbehave, for local chains and tests
@notice Faults: a fee on every transfer, a silent failure (returns false, moves nothing), no return value, and a
        call made in the middle of a transfer (re-entrance).
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
symbol: public(String[16])
decimals: public(immutable(uint8))
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])

NORMAL: constant(uint256) = 0
FEE: constant(uint256) = 1  # argument: basis points burnt of every transfer
RETURNS_FALSE: constant(uint256) = 2
NO_RETURN: constant(uint256) = 3
REENTERS: constant(uint256) = 4  # calls `hook` with `hook_data` once a transfer

fault: public(uint256)
fault_argument: public(uint256)
hook: public(address)
hook_data: Bytes[2048]
hook_succeeded: public(uint256)  # how many re-entrant calls went through


@deploy
def __init__(_name: String[32], _symbol: String[16], _decimals: uint8):
    self.name = _name
    self.symbol = _symbol
    decimals = _decimals


@external
def set_fault(kind: uint256, argument: uint256, hook: address, hook_data: Bytes[2048]):
    """@notice Choose how the token misbehaves from now on."""
    self.fault = kind
    self.fault_argument = argument
    self.hook = hook
    self.hook_data = hook_data


@external
def mint(receiver: address, amount: uint256):
    """@notice Create `amount` raw units for `receiver`."""
    self.totalSupply += amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@internal
def _move(sender: address, receiver: address, amount: uint256) -> Bytes[32]:
    kind: uint256 = self.fault
    if kind == RETURNS_FALSE:
        return abi_encode(False)
    got: uint256 = amount
    if kind == FEE:
        got -= amount * self.fault_argument // 10_000
        self.totalSupply -= amount - got
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += got
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

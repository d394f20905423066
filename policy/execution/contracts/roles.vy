# pragma version 0.4.3
"""
@title Roles, pause and timelock
@notice The owner can change nothing at once: a change is a call of the vault to itself, announced with `schedule` and
        made with `execute` after `delay` seconds. At once the owner can only make things safer: pause, cancel, revoke
        the keeper. The guardian only pauses. The keeper only trades.
"""

event Scheduled:
    id: indexed(bytes32)
    ready_at: uint256
    data: Bytes[MAX_CHANGE]

event Cancelled:
    id: indexed(bytes32)

event Executed:
    id: indexed(bytes32)

event RoleChanged:
    role: indexed(uint256)  # 0 owner, 1 keeper, 2 guardian
    account: indexed(address)

event Paused:
    by: indexed(address)

event Resumed: pass

MAX_CHANGE: constant(uint256) = 1024
GRACE: constant(uint256) = 14 * 86_400  # a change not made this long after it was ready is void
MAX_DELAY: constant(uint256) = 30 * 86_400

owner: public(address)
guardian: public(address)
delay: public(uint256)
ready_at: public(HashMap[bytes32, uint256])
_desk: uint256  # keeper | paused << 160


@deploy
def __init__(owner: address, keeper: address, guardian: address, delay: uint256):
    assert owner != empty(address) and delay <= MAX_DELAY, "roles"
    self.owner = owner
    self.guardian = guardian
    self.delay = delay
    self._desk = convert(keeper, uint256)
    log RoleChanged(role=0, account=owner)
    log RoleChanged(role=1, account=keeper)
    log RoleChanged(role=2, account=guardian)


@external
@view
def keeper() -> address:
    return convert(self._desk & (2**160 - 1), address)


@external
@view
def paused() -> bool:
    return self._paused()


@internal
@view
def _paused() -> bool:
    return (self._desk >> 160) != 0


@internal
@view
def _only_keeper():
    desk: uint256 = self._desk
    assert (desk & (2**160 - 1)) == convert(msg.sender, uint256), "keeper"
    assert (desk >> 160) == 0, "paused"


@internal
@view
def _only_self():
    assert msg.sender == self, "timelock"


@external
def pause():
    """@notice Stop trading, deposits and oracle-priced exits at once; the in-kind exit stays open."""
    assert msg.sender == self.guardian or msg.sender == self.owner, "guardian"
    self._desk |= 1 << 160
    log Paused(by=msg.sender)


@external
def revoke_keeper():
    """@notice Take the keeper's key away at once."""
    assert msg.sender == self.owner, "owner"
    self._desk = (self._desk >> 160) << 160
    log RoleChanged(role=1, account=empty(address))


@external
def schedule(data: Bytes[MAX_CHANGE]) -> bytes32:
    """@notice Announce a call of the vault to itself; returns the id to `execute` or `cancel` it by."""
    assert msg.sender == self.owner, "owner"
    id: bytes32 = keccak256(data)
    assert self.ready_at[id] == 0 or block.timestamp > self.ready_at[id] + GRACE, "scheduled"
    self.ready_at[id] = block.timestamp + self.delay
    log Scheduled(id=id, ready_at=block.timestamp + self.delay, data=data)
    return id


@external
def cancel(id: bytes32):
    """@notice Withdraw an announced change."""
    assert msg.sender == self.owner, "owner"
    assert self.ready_at[id] != 0, "unknown"
    self.ready_at[id] = 0
    log Cancelled(id=id)


@external
def execute(data: Bytes[MAX_CHANGE]):
    """@notice Make an announced change whose delay is over; once."""
    assert msg.sender == self.owner, "owner"
    id: bytes32 = keccak256(data)
    ready: uint256 = self.ready_at[id]
    assert ready != 0, "unknown"
    assert block.timestamp >= ready, "early"
    assert block.timestamp <= ready + GRACE, "expired"
    self.ready_at[id] = 0
    raw_call(self, data)
    log Executed(id=id)


@external
def resume():
    self._only_self()
    self._desk &= 2**160 - 1
    log Resumed()


@external
def set_role(role: uint256, account: address):
    """@notice Name the owner (0), keeper (1) or guardian (2); an owner can be replaced, never removed."""
    self._only_self()
    if role == 0:
        assert account != empty(address), "roles"
        self.owner = account
    elif role == 1:
        self._desk = ((self._desk >> 160) << 160) | convert(account, uint256)
    else:
        assert role == 2, "roles"
        self.guardian = account
    log RoleChanged(role=role, account=account)


@external
def set_delay(delay: uint256):
    self._only_self()
    assert delay <= MAX_DELAY, "roles"
    self.delay = delay

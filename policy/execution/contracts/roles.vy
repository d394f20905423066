# pragma version 0.4.3
"""
@title Roles, pause and timelock
@notice The owner can change nothing at once: a change is a call of the vault to itself, announced with `schedule` and
        made with `execute` after `delay` seconds. At once the owner can only pause, cancel, and take the keeper's or
        the guardian's key away. The guardian only pauses, and not again within `delay` of a resume, so that he cannot
        lock a vault whose owner wants it open. The keeper only trades. A new owner accepts before he is one.
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

event OwnerProposed:
    account: indexed(address)

event Paused:
    by: indexed(address)  # the vault itself: a loss budget was used up

event Resumed: pass

MAX_CHANGE: constant(uint256) = 1024
GRACE: constant(uint256) = 14 * 86_400  # a change not made this long after it was ready is void
MIN_DELAY: constant(uint256) = 3_600
MAX_DELAY: constant(uint256) = 30 * 86_400
RUNNING: constant(uint256) = 0  # why the vault is paused
BY_GUARDIAN: constant(uint256) = 1
BY_OWNER: constant(uint256) = 2
BY_BUDGET: constant(uint256) = 3
KEEPER: constant(uint256) = 2**160 - 1

owner: public(address)
pending_owner: public(address)
guardian: public(address)
delay: public(uint256)
ready_at: public(HashMap[bytes32, uint256])
_desk: uint256  # keeper | why paused << 160 | time of the last resume << 168


@internal
def _set_up(owner: address, keeper: address, guardian: address, delay: uint256):
    assert owner != empty(address) and delay >= MIN_DELAY and delay <= MAX_DELAY, "roles"
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
    return convert(self._desk & KEEPER, address)


@external
@view
def paused() -> bool:
    return self._paused()


@external
@view
def pause_reason() -> uint256:
    """@notice 0 not paused, 1 by the guardian, 2 by the owner, 3 a loss budget was used up."""
    return (self._desk >> 160) & 255


@internal
@view
def _paused() -> bool:
    return (self._desk >> 160) & 255 != 0


@internal
@view
def _only_keeper():
    desk: uint256 = self._desk
    assert (desk & KEEPER) == convert(msg.sender, uint256), "keeper"
    assert (desk >> 160) & 255 == 0, "paused"


@internal
@view
def _only_self():
    assert msg.sender == self, "timelock"


@internal
def _pause(reason: uint256, by: address):
    desk: uint256 = self._desk
    if (desk >> 160) & 255 == 0:
        self._desk = desk | (reason << 160)
        log Paused(by=by)


@external
def pause():
    """@notice Stop trading, deposits and oracle-priced exits at once; the in-kind exit stays open."""
    if msg.sender == self.owner:
        self._pause(BY_OWNER, msg.sender)
    else:
        assert msg.sender == self.guardian, "guardian"
        assert block.timestamp >= (self._desk >> 168) + self.delay, "resumed"
        self._pause(BY_GUARDIAN, msg.sender)


@external
def revoke_keeper():
    """@notice Take the keeper's key away at once."""
    assert msg.sender == self.owner, "owner"
    self._desk = (self._desk >> 160) << 160
    log RoleChanged(role=1, account=empty(address))


@external
def revoke_guardian():
    """@notice Take the guardian's key away at once."""
    assert msg.sender == self.owner, "owner"
    self.guardian = empty(address)
    log RoleChanged(role=2, account=empty(address))


@external
def accept_ownership():
    """@notice The proposed owner takes over."""
    assert msg.sender == self.pending_owner, "owner"
    self.owner = msg.sender
    self.pending_owner = empty(address)
    log RoleChanged(role=0, account=msg.sender)


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


@internal
def _resume():
    self._only_self()
    self._desk = (self._desk & KEEPER) | (block.timestamp << 168)
    log Resumed()


@external
def set_role(role: uint256, account: address):
    """@notice Name the keeper (1) or guardian (2), or propose the owner (0), who then accepts; never nobody."""
    self._only_self()
    if role == 0:
        assert account != empty(address), "roles"
        self.pending_owner = account
        log OwnerProposed(account=account)
    else:
        if role == 1:
            self._desk = ((self._desk >> 160) << 160) | convert(account, uint256)
        else:
            assert role == 2, "roles"
            self.guardian = account
        log RoleChanged(role=role, account=account)


@external
def set_delay(delay: uint256):
    self._only_self()
    assert delay >= MIN_DELAY and delay <= MAX_DELAY, "roles"
    self.delay = delay

"""Calldata of exact-input swaps, for the allow-listed routers the reference vault may call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from math import isqrt
from typing import cast

from lake.errors import ExecutionError
from lake.units import BPS, Bps
from lake.venues import venues
from policy.execution.base import Hop
from policy.execution.routing.amm import MAX_SQRT_RATIO, MIN_SQRT_RATIO, Pool, V3Pool

ADDRESS_BYTES = 20
Encoder = Callable[[Sequence[Hop], int, int, str, int, int], bytes]
"""From hops of one venue, amount in, least amount out, recipient, deadline and price limit to the router's calldata."""


def price_limit(after: Pool, token_in: str, tolerance: Bps) -> int:
    """Return the v3 ``sqrtPriceLimitX96`` for a swap that leaves the pool at ``after``.

    It lies beyond the price AFTER the swap by twice the tolerance, never at the average price (that one reverts or
    half-fills nearly every sizeable swap); ``min_out`` binds first, the limit stops a runaway walk through thin ticks.
    """
    if not isinstance(after, V3Pool):
        raise ExecutionError(f"pool {after.address} is no v3 pool and knows no price limit")
    room = min(2 * tolerance, BPS - 1)
    squared = after.sqrt_price_x96**2
    if token_in == after.token0:
        return max(MIN_SQRT_RATIO + 1, isqrt(squared * (BPS - room) // BPS))
    return min(MAX_SQRT_RATIO - 1, isqrt(squared * (BPS + room) // BPS))


def swap(hops: Sequence[Hop], amount_in: int, min_out: int, recipient: str, deadline: int, limit: int = 0) -> bytes:
    """Return the router call that sells ``amount_in`` along ``hops`` (all of one venue) to ``recipient``."""
    names = {h.venue for h in hops}
    if len(names) != 1 or not names <= venues().keys():
        raise ExecutionError(f"one leg is one call of one router, got {sorted(names)}; known are {sorted(venues())}")
    return encoder(hops[0].venue)(hops, amount_in, min_out, recipient, deadline, limit)


@cache
def encoder(name: str) -> Encoder:
    """Return what writes the calls of a venue's router: its own function, else that of its curve."""
    row = venues()[name]
    if not row.encode:
        return {"pair": _pair, "ticks": _ticks}[row.curve]
    module, _, function = row.encode.partition(":")
    return cast("Encoder", getattr(import_module(module), function))


def _pair(hops: Sequence[Hop], amount_in: int, min_out: int, recipient: str, deadline: int, limit: int) -> bytes:
    """UniswapV2Router02.swapExactTokensForTokens."""
    del limit
    path = [hops[0].token_in, *(h.token_out for h in hops)]
    signature = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
    types = ["uint256", "uint256", "address[]", "address", "uint256"]
    return _call(signature, types, [amount_in, min_out, path, recipient, deadline])


def _ticks(hops: Sequence[Hop], amount_in: int, min_out: int, recipient: str, deadline: int, limit: int) -> bytes:
    """SwapRouter.exactInputSingle for one pool, exactInput for more (v3-periphery 1.4.4, with its deadline)."""
    if len(hops) == 1:
        hop = hops[0]
        kind = "(address,address,uint24,address,uint256,uint256,uint256,uint160)"
        given = (hop.token_in, hop.token_out, hop.fee_pips, recipient, deadline, amount_in, min_out, limit)
        return _call(f"exactInputSingle({kind})", [kind], [given])
    kind = "(bytes,address,uint256,uint256,uint256)"
    return _call(f"exactInput({kind})", [kind], [(_path(hops), recipient, deadline, amount_in, min_out)])


def ticks_router02(
    hops: Sequence[Hop], amount_in: int, min_out: int, recipient: str, deadline: int, limit: int
) -> bytes:
    """SwapRouter02 (swap-router-contracts 1.3.1): the same without a deadline, which the vault enforces itself."""
    del deadline
    if len(hops) == 1:
        hop = hops[0]
        kind = "(address,address,uint24,address,uint256,uint256,uint160)"
        given = (hop.token_in, hop.token_out, hop.fee_pips, recipient, amount_in, min_out, limit)
        return _call(f"exactInputSingle({kind})", [kind], [given])
    kind = "(bytes,address,uint256,uint256)"
    return _call(f"exactInput({kind})", [kind], [(_path(hops), recipient, amount_in, min_out)])


def _path(hops: Sequence[Hop]) -> bytes:
    """Return tokens and fees as a v3 router reads a path."""
    path = bytes.fromhex(hops[0].token_in[2:])
    for hop in hops:
        path += hop.fee_pips.to_bytes(3, "big") + bytes.fromhex(hop.token_out[2:])
    return path


def _call(signature: str, types: Sequence[str], values: Sequence[object]) -> bytes:
    from eth_abi.abi import encode  # late: 0.4 s of imports a simulated run does not need
    from eth_utils.crypto import keccak

    return bytes(keccak(text=signature)[:4] + encode(types, values))

"""What the short codes in reverts mean: Uniswap v2 and v3, Safe, the reference vault, Solidity itself.

Sources: v3-core UniswapV3Pool.sol, libraries/; v3-periphery SwapRouter.sol, TransferHelper.sol; v2-core and periphery;
safe-smart-account docs/error_codes.md; contracts/foredrift_vault.vy.
"""

from __future__ import annotations

UNISWAP = {
    "TF": "the pool could not send the token bought: it is paused, blocks the receiver, or its transfer fails",
    "STF": "the router could not take the token sold: too little balance or approval, or it refuses the transfer",
    "ST": "the token refuses the transfer",
    "SA": "the token refuses the approval",
    "IIA": "the pool received less than the swap needs: it takes a fee on transfers or changes balances by itself",
    "SPL": "the price limit lies beyond the pool's price: it moved past the limit, or the pool has no price",
    "AS": "the amount to swap is 0",
    "LOK": "the pool is locked: it has no price yet, or is called from within its own swap",
    "M0": "the pool received too little of its first token",
    "M1": "the pool received too little of its second token",
    "L": "the liquidity is out of range",
    "LO": "too much liquidity on one tick",
    "LA": "liquidity overflows",
    "LS": "liquidity would fall below 0",
    "NP": "there is no such position",
    "T": "the tick is out of range",
    "R": "the price is out of range",
    "OLD": "the pool's history does not reach back that far",
    "I": "the pool has no history yet",
    "Too little received": "the price moved: less arrives than the leg requires",
    "Too much requested": "the price moved: more would be spent than the leg allows",
    "Transaction too old": "the router's deadline has passed",
    "UniswapV2: K": "the pool received less than the swap needs: the token takes a fee or changes balances",
    "UniswapV2: LOCKED": "the pair is called from within its own swap",
    "UniswapV2: INSUFFICIENT_OUTPUT_AMOUNT": "the amount bought is 0",
    "UniswapV2: INSUFFICIENT_INPUT_AMOUNT": "the pair received nothing of the token sold",
    "UniswapV2: INSUFFICIENT_LIQUIDITY": "the pair holds too little",
    "UniswapV2: TRANSFER_FAILED": "the pair could not send the token bought: it is paused, or blocks the receiver",
    "UniswapV2Router: INSUFFICIENT_OUTPUT_AMOUNT": "the price moved: less arrives than the leg requires",
    "UniswapV2Router: EXCESSIVE_INPUT_AMOUNT": "the price moved: more would be spent than the leg allows",
    "UniswapV2Router: EXPIRED": "the router's deadline has passed",
    "UniswapV2Library: INSUFFICIENT_LIQUIDITY": "the pair holds too little",
    "TransferHelper: TRANSFER_FROM_FAILED": "the router could not take the token sold: it refuses the transfer",
    "TransferHelper::transferFrom: transferFrom failed": "the router could not take the token sold",
    "TransferHelper::safeTransfer: transfer failed": "the token refuses the transfer",
}

SAFE = {
    "GS000": "the Safe's set-up failed",
    "GS001": "the Safe has no threshold: it is not set up",
    "GS010": "too little gas for the Safe's own work",
    "GS011": "the Safe could not pay the gas refund in the native coin",
    "GS012": "the Safe could not pay the gas refund in a token",
    "GS013": "the batch fails inside; the Safe hides why",
    "GS020": "too few signatures for the Safe's threshold: it was raised, or an owner's signature is missing",
    "GS021": "a contract signature points outside the signatures",
    "GS022": "a contract signature is cut short",
    "GS023": "a contract signature is incomplete",
    "GS024": "an owner that is a contract denies its signature",
    "GS025": "the hash was not approved by the owner named",
    "GS026": "a signer is no owner of the Safe, or signed another batch: wrong nonce, changed owners",
    "GS030": "only owners may approve a hash",
    "GS031": "only the Safe itself may do this",
    "GS104": "only a module of the Safe may do this",
    "GS203": "an address of owners or sentinel is not valid",
    "GS204": "the address is an owner already",
    "GS300": "the guard does not answer as a guard must",
}

VAULT = {
    "min out": "a leg received less than its minimum",
    "spent": "a leg spent more than its amount: the token moves more than it is told, or changes balances by itself",
    "leg value": "a leg loses more against the oracle than the mandate allows",
    "turnover": "the plan trades more than the mandate allows at once",
    "nav floor": "the vault would be worth less than the plan's floor",
    "loss budget": "the plan would use up more than is left of the loss budget",
    "progress": "the weights would end further from their targets",
    "cooldown": "the last plan is too recent",
    "deadline": "the plan's deadline has passed",
    "nonce": "the vault expects another plan number: a plan has landed meanwhile",
    "receiver": "neither the vault itself nor nobody can be sent an exit in kind: its claims could never be taken",
    "flow": "no deposit or exit at the oracle's price in the block of a plan",
    "leg gain": "a leg beats the oracle by more than the mandate allows: the oracle is wrong",
    "hold": "the shares were bought too recently to part with them",
    "doubted": "deposits and exits at the oracle's price are closed for a while: the market denies the oracle",
    "zero": "an amount of nothing, or so small that it comes to nothing",
    "legs": "the plan has no leg, or too many",
    "plan hash": "the hash does not belong to these legs, this vault and this chain",
    "oracle": "a price is not good now: stale, not positive, or its two sources are apart",
    "empty": "the vault holds nothing",
    "target": "a leg calls a contract or function that is not on the vault's list",
    "pair": "a leg trades a token that the vault does not hold, or one for itself",
    "approve": "the token refuses the approval",
    "keeper": "the sender is not the vault's keeper: it was revoked or changed",
    "paused": "the vault is paused: by the guardian, the owner, or because a loss budget was used up",
    "transfer": "the token refuses the transfer",
}

OTHER = {
    "out of gas": "the gas limit was used up: the pool's state had changed since the simulation",
    "reverted without a reason": "a contract gave no reason; as a rule it lacks the function, or ran out of gas",
    "ERC20: transfer amount exceeds balance": "the account holds less of the token than the leg sells",
    "ERC20: transfer amount exceeds allowance": "the approval is smaller than the amount",
    "Pausable: paused": "the token is paused by its issuer",
    "ERC20Pausable: token transfer while paused": "the token is paused by its issuer",
    "Blacklistable: account is blacklisted": "the token's issuer has blacklisted the account",
}

PANICS = {
    0x01: "an assertion failed",
    0x11: "an amount overflows",
    0x12: "a division by zero",
    0x21: "a value out of its range",
    0x31: "an empty list",
    0x32: "a position beyond the end of a list",
    0x41: "too much memory",
    0x51: "a call of an unset function",
}

CUSTOM = {
    "e450d38c": "ERC20InsufficientBalance: the account holds less of the token than the leg sells",
    "fb8f41b2": "ERC20InsufficientAllowance: the approval is smaller than the amount",
    "ec442f05": "ERC20InvalidReceiver: the token refuses the receiver",
    "96c6fd1e": "ERC20InvalidSender: the token refuses the sender",
    "d93c0665": "EnforcedPause: the token is paused by its issuer",
    "5274afe7": "SafeERC20FailedOperation: the token refuses the call",
    "fd8e9f28": "NoMembership: the keeper holds no such role: it was revoked, or never given (foredrift vault roles)",
    "4a0bfec1": "NotAuthorized: the account may not act on this Safe",
}
"""Selectors of errors with names of their own (OpenZeppelin 5, Zodiac Roles v2)."""

CONDITION_VIOLATION = "d0a9bf58"
ROLE_STATUS = {
    1: "a delegate call is not allowed",
    2: "the contract called is not in the role",
    3: "the function called is not in the role",
    4: "sending native coins is not allowed",
    5: "a call is along no listed way: wrong recipient, pool, token or router, or its token's allowance is used up",
    6: "a value is one of those excluded",
    7: "a value is not the one allowed",
    8: "a value is less than allowed",
    9: "a value is more than allowed",
    10: "a list has another length than allowed",
    17: "the token's allowance of this period is used up",
}
"""Zodiac Roles v2, PermissionChecker.sol, Status: why a role does not allow a call."""

MEANINGS = {**OTHER, **UNISWAP, **SAFE, **VAULT}


def meaning(code: str) -> str:
    """Return ``code`` with what it means; codes that are not known stand for themselves."""
    bare = code.removeprefix("execution reverted: ").strip()
    known = MEANINGS.get(bare) or next((MEANINGS[k] for k in MEANINGS if len(k) > 4 and k in bare), None)
    return f"{bare}: {known}" if known else bare

# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Whoever borrows, enters a vault, leaves it, sells and repays within one transaction, for tests
@notice Every call is made from this contract; the whole reverts unless the loan is repaid.
"""

interface IERC20:
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable
    def transferFrom(sender: address, receiver: address, amount: uint256) -> bool: nonpayable
    def approve(spender: address, amount: uint256) -> bool: nonpayable
    def balanceOf(account: address) -> uint256: view


@external
def run(cash: address, lender: address, loan: uint256, calls: DynArray[address, 12], data: DynArray[Bytes[1024], 12]):
    """@notice Borrow `loan`, make the calls in order, repay; what is left of the cash goes to the caller."""
    if loan > 0:
        extcall IERC20(cash).transferFrom(lender, self, loan)
    for i: uint256 in range(len(calls), bound=12):
        raw_call(calls[i], data[i])
    if loan > 0:
        extcall IERC20(cash).transfer(lender, loan)
    extcall IERC20(cash).transfer(msg.sender, staticcall IERC20(cash).balanceOf(self))


@external
def sell_all(token: address, market: address, cash: address, price_e8: uint256, unit: uint256, fee_bps: uint256):
    """@notice Sell all of `token` at the mock market for `price_e8` of 6-decimals cash less a fee."""
    held: uint256 = staticcall IERC20(token).balanceOf(self)
    out: uint256 = held * price_e8 // unit // 100 * (10_000 - fee_bps) // 10_000
    extcall IERC20(token).approve(market, held)
    raw_call(
        market,
        abi_encode(token, cash, held, out, method_id=method_id("swap(address,address,uint256,uint256)")),
    )


@external
def redeem_all(vault: address, in_kind: bool, receiver: address):
    """@notice Redeem every share this contract has, for cash or in kind."""
    shares: uint256 = staticcall IERC20(vault).balanceOf(self)
    if in_kind:
        raw_call(
            vault,
            abi_encode(shares, receiver, self, method_id=method_id("redeemInKind(uint256,address,address)")),
        )
    else:
        raw_call(vault, abi_encode(shares, receiver, self, method_id=method_id("redeem(uint256,address,address)")))

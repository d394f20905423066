# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A swap target that pays exactly what it is told, for tests of the vault's own rules
"""

interface IERC20:
    def transfer(receiver: address, amount: uint256) -> bool: nonpayable
    def transferFrom(sender: address, receiver: address, amount: uint256) -> bool: nonpayable


@external
def swap(token_in: address, token_out: address, amount_in: uint256, amount_out: uint256):
    """@notice Pull `amount_in` from the caller and pay `amount_out` from this contract's own stock."""
    extcall IERC20(token_in).transferFrom(msg.sender, self, amount_in, default_return_value=True)
    extcall IERC20(token_out).transfer(msg.sender, amount_out, default_return_value=True)


@external
def idle(amount: uint256):
    """@notice Do nothing: a leg that pays nothing and takes nothing."""
    pass

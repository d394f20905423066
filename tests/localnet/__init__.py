"""What only tests put on the local chain: vaults of other systems from published bytecode, and bidders of auctions."""

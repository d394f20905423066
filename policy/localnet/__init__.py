"""A local market: Anvil behind a realistic mempool front, a prepared world, and the bots that live in it."""

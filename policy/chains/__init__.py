"""One portfolio on several chains: its weights, its cash on each chain, where a trade is made and what is moved."""

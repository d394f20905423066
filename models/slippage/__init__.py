"""The slippage family: depth, cost of a trade, what own executions cost."""

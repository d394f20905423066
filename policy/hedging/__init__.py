"""Hedging: the Greeks of a book, and rules that rebalance to the moving target they set; decisions only, no I/O."""

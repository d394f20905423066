"""The hedge account: spot and a perpetual against the delta of a book, held to its rules on chain."""

"""Where rows come from: one Source per file, all obeying tests/laws/test_source.py."""

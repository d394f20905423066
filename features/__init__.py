"""One family of features per file; polars expressions on lazy frames; nothing after the decision time."""

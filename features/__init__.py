"""One family of features per file; finite windows over the hourly grid; nothing after the decision time."""

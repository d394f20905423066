"""Tables on disk, where they come from, and the words and units every other package shares."""

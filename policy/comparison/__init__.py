"""The panel of policies: runs, paired differences, tables, artifacts."""

"""One file per group of verbs; heavy packages are imported inside the functions, so `--help` stays instant."""

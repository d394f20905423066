"""One plain function a verb: ingest, train, forecast, compare, rebalance and those that look."""

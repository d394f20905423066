"""The gas family: price paid, its minimum ahead, scenario paths."""

"""An Enzyme v4 fund: adapter."""

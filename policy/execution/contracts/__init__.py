"""Vyper sources of the reference vault, their artefacts, and the compiler."""

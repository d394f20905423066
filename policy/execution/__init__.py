"""From a decision to verified new weights: guards, route, gas, relay, journal, vault, audit."""

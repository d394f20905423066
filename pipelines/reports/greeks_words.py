"""The Greeks of a deployment's book in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def greeks_words(found: Mapping[str, Any]) -> str:
    """Return delta, gamma, theta and vega with their units and what they are of; why, where they are not known."""
    if found["unpriced"] is not None:
        return f"no Greeks: {found['unpriced']}"
    said = (
        f"delta {found['delta_usd']:,.0f} USD, gamma {found['gamma_usd']:,.0f} USD, "
        f"theta {found['theta_usd_day']:,.0f} USD/d, vega {found['vega_usd_point']:,.0f} USD/pt"
    )
    net = found["net_delta_usd"]
    return f"{said}{'' if net is None else f', with its hedge delta {net:,.0f} USD'}, as of {found['as_of'][:16]}"

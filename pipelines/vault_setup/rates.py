"""What is remembered of the yield-bearing tokens' rates: one small file beside a vault's journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lake.errors import ConfigError
from lake.private import opener, private_folder
from pipelines.vault_settings import VaultSettings
from policy.execution.checks.rates import Rate, Seen, SeenRate, after, judged, yearly_yield
from policy.execution.vaults.safe.adapter import SafeAccount


def rates_file(deployment: VaultSettings) -> Path:
    """Return where the rates of ``deployment`` are remembered."""
    return deployment.journal.with_name(deployment.journal.name + ".rates.json")


def seen_rates(deployment: VaultSettings) -> dict[str, SeenRate]:
    """Return the remembered rates by token address; ConfigError names a file that is none."""
    path = rates_file(deployment)
    if not path.exists():
        return {}
    try:
        return {token: SeenRate(**row) for token, row in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} holds no rates ({error!r}); move it aside: the next run believes what it sees"
        ) from None


def remember(deployment: VaultSettings, vault: object) -> None:
    """Keep the rates of a vault's yield-bearing tokens that were judged good; the highest stay."""
    if not isinstance(vault, SafeAccount) or not vault.spec.yields:
        return
    seen = seen_rates(deployment)
    found = {r.token: after(r, seen.get(r.token)) for r in vault.state().rates if judged(r, seen.get(r.token)).ok}
    if found.items() - seen.items():
        _write(deployment, {**seen, **found})


def _write(deployment: VaultSettings, seen: Seen) -> None:
    path = rates_file(deployment)
    private_folder(path.parent)
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8", opener=opener) as out:
        json.dump({token: asdict(row) for token, row in seen.items()}, out, indent=1)
    part.replace(path)


def shown(deployment: VaultSettings, vault: SafeAccount, accept: str | None = None) -> list[dict[str, Any]]:
    """Return each yield-bearing token's rate, yield a year and verdict; ``accept``: believe this one from now on.

    Raises ConfigError where there is no such token.
    """
    rates, seen = vault.state().rates, seen_rates(deployment)
    if accept is not None:
        named = [r for r in rates if accept in {r.symbol, r.token}]
        if not named:
            have = ", ".join(r.symbol for r in rates) or "none"
            raise ConfigError(f"there is no yield-bearing token {accept!r} (there are: {have})")
        seen |= {r.token: after(r, seen.get(r.token), accepted=True) for r in named}
        _write(deployment, seen)
    return [_row(vault, rate, seen) for rate in rates]


def _row(vault: SafeAccount, rate: Rate, seen: Mapping[str, SeenRate]) -> dict[str, Any]:
    made = next(v for v in vault.spec.yields if v.address == rate.token)
    verdict, known = judged(rate, seen.get(rate.token)), seen.get(rate.token)
    unit = 10 ** (12 + made.asset_decimals)
    return {
        "symbol": rate.symbol, "token": rate.token, "rate": rate.rate / unit,
        "highest_seen": None if known is None else known.rate / unit, "yield_a_year": yearly_yield(rate, known),
        "ok": verdict.ok, "words": verdict.reason,
    }  # fmt: skip

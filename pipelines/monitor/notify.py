"""Notifications: what people hear of, through Apprise (FOREDRIFT_NOTIFY)."""

from __future__ import annotations

from lake.errors import ConfigError
from pipelines.monitor.logs import log
from pipelines.settings import notify_urls

EVENTS = (
    "executed", "refused", "untradable", "denied", "abstained", "failed", "late", "retrain_failed", "zombie", "stopped",
    "resumed", "transfer", "ledger", "cash_low", "gas_low", "sequencer", "oracle_differs", "route_mismatch",
)  # fmt: skip


def notify(event: str, title: str, body: str) -> bool:
    """Tell people through Apprise (FOREDRIFT_NOTIFY); return whether anybody was told; never raises."""
    try:
        urls = notify_urls()
    except ConfigError as error:  # what happened is in the audit record and in the lake all the same
        log("nobody is told", error=str(error))
        return False
    if not urls:
        return False
    import apprise

    kind = {"executed": "success", "failed": "failure", "zombie": "failure", "retrain_failed": "failure"}
    sender = apprise.Apprise()
    for url in urls:
        sender.add(url)
    return bool(sender.notify(title=f"Foredrift: {title}", body=body, notify_type=kind.get(event, "warning")))

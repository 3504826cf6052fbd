"""PagerDuty: the JSON of Events API v2, within its limits."""

from __future__ import annotations

from typing import Any

import orjson

from services.alerting.channels.spec import PagerDutyChannel
from services.alerting.channels.text import cut, link, one_line, printable
from services.alerting.channels.wording import headline
from services.alerting.domain.notification import MAX_DEDUP_KEY, Notification
from shared.clock import to_iso

MAX_SUMMARY = 1_024
MAX_EVENT = 512 * 1024
_MAX_DETAILS = 400 * 1024
_MAX_DETAILS_SHOWN = 20_000
_CLIENT = "Tidegate"


def pagerduty_body(channel: PagerDutyChannel, notification: Notification) -> bytes:
    """One event. What ends an incident needs nothing but its dedup key."""
    event: dict[str, Any] = {
        "routing_key": channel.routing_key,
        "event_action": notification.action,
        "dedup_key": notification.dedup_key[:MAX_DEDUP_KEY],
    }
    if notification.action == "trigger":
        event |= _incident(notification)
    return orjson.dumps(event)


def _incident(notification: Notification) -> dict[str, Any]:
    incident: dict[str, Any] = {
        "payload": {
            "summary": cut(headline(notification), MAX_SUMMARY),
            "source": cut(f"tidegate/{one_line(notification.organisation)}", MAX_DEDUP_KEY),
            "severity": notification.severity,
            "timestamp": to_iso(notification.at),
            "component": cut(one_line(notification.alert_key), MAX_DEDUP_KEY),
            "custom_details": _details(notification),
        },
        "client": _CLIENT,
    }
    runbook, dashboard = link(notification.runbook_url), link(notification.dashboard_url)
    links = [
        {"href": url, "text": name}
        for name, url in (("Runbook", runbook), ("Dashboard", dashboard))
        if url is not None
    ]
    if links:
        incident["links"] = links
    if dashboard is not None:
        incident["client_url"] = dashboard
    return incident


def _details(notification: Notification) -> dict[str, Any]:
    """The message and the evidence; the latter as the beginning of its text if it would be too much."""
    message = {"message": printable(notification.message)}
    evidence = orjson.dumps(dict(notification.data))
    if len(evidence) <= _MAX_DETAILS:
        return message | {"evidence": notification.data}
    return message | {"evidence": cut(evidence.decode()[: _MAX_DETAILS_SHOWN + 1], _MAX_DETAILS_SHOWN)}

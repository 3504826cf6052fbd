"""What every channel says about a notification, before it is put into a wire format."""

from __future__ import annotations

from itertools import islice

from services.alerting.channels.text import one_line, printable, shown
from services.alerting.domain.notification import Notification
from shared.clock import to_datetime

MAX_FACTS = 100
_MAX_NAME, _MAX_VALUE = 200, 4_000

_STATUS = {"acknowledge": "ACKNOWLEDGED", "resolve": "RESOLVED"}
_COLOURS = {"critical": "#b3001b", "error": "#e8590c", "warning": "#f2a900", "info": "#1c7ed6"}
_RESOLVED, _ACKNOWLEDGED = "#2b8a3e", "#868e96"


def headline(notification: Notification) -> str:
    """`CRITICAL: title` while it lasts, then `ACKNOWLEDGED: title` and `RESOLVED: title`; one line."""
    status = _STATUS.get(notification.action, notification.severity.upper())
    return f"{status}: {one_line(notification.title) or one_line(notification.alert_key)}"


def colour(notification: Notification) -> str:
    """Of the severity while the incident lasts; `#rrggbb`."""
    if notification.action == "resolve":
        return _RESOLVED
    return _ACKNOWLEDGED if notification.action == "acknowledge" else _COLOURS[notification.severity]


def moment(notification: Notification) -> str:
    return to_datetime(notification.at).strftime("%Y-%m-%d %H:%M:%S UTC")


def facts(notification: Notification) -> list[tuple[str, str]]:
    """What is known, most important first: names of one line, values that may have several, each of bounded length.

    Of the evidence at most `MAX_FACTS` pieces.
    """
    known = [
        ("Severity", notification.severity.upper()),
        ("Time", moment(notification)),
        ("Organisation", one_line(notification.organisation)),
        ("Alert", one_line(notification.alert_key)),
    ]
    for name, value in islice(notification.data.items(), MAX_FACTS):
        text = printable(shown(value)[:_MAX_VALUE]).strip()
        known.append((one_line(name[:_MAX_NAME]) or "-", text or "-"))
    return known

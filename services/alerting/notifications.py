"""The outbox of notifications: filled in the transaction of the transition that they tell of.

transition + rows ─► commit ─► `Delivery.wake()` ─► each channel sends its rows, in order for each alert
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.alerting.domain.notification import Action, Notification, Severity, storable, storable_data
from shared.clock import from_datetime, to_iso
from shared.postgres import Connection, Pool

logger = logging.getLogger(__name__)

State = Literal["pending", "delivered", "failed", "expired", "superseded"]
"""`failed`: the receiver refused for good; `expired`: given up; `superseded`: a newer trigger went instead."""

_NO_CHANNEL = "there is no channel of this name"


async def enqueue(connection: Connection, notifications: Sequence[Notification]) -> None:
    """Adds a row for each notification and channel, in the caller's transaction.

    A channel that is named but not there gets a row that has failed, so that it shows. Raises what `RETRYABLE` lists.
    """
    rows = []
    for notification in notifications:
        for channel, exists in await _channels(connection, notification):
            rows.append(_row(notification, channel, exists=exists))
            if not exists:
                logger.error(
                    "a notification names a channel that does not exist",
                    extra={"organisation": notification.organisation, "channel": channel},
                )
    if rows:
        await connection.executemany(_INSERT, rows)


async def _channels(connection: Connection, notification: Notification) -> list[tuple[str, bool]]:
    """Keys, and whether they exist; those that do cannot be removed before the transaction ends."""
    found = [
        row["key"]
        for row in await connection.fetch(
            "SELECT key FROM alerting.channels "
            "WHERE organisation = $1 AND ($2::text[] IS NULL OR key = ANY ($2::text[])) ORDER BY key FOR KEY SHARE",
            notification.organisation,
            notification.notify,
        )
    ]
    wanted = found if notification.notify is None else dict.fromkeys(map(storable, notification.notify))
    return [(key, key in found) for key in wanted]


_INSERT = """
INSERT INTO alerting.notifications (
    organisation, channel, alert_id, alert_key, dedup_key, action, severity, title, message, data, runbook_url,
    dashboard_url, decided_at, state, detail, finished_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
          CASE WHEN $14 THEN 'pending' ELSE 'failed' END, CASE WHEN $14 THEN '' ELSE $15 END,
          CASE WHEN $14 THEN NULL ELSE now() END)
"""


def _row(notification: Notification, channel: str, *, exists: bool) -> tuple[Any, ...]:
    return (
        notification.organisation,
        channel,
        notification.alert_id,
        storable(notification.alert_key),
        storable(notification.dedup_key),
        notification.action,
        notification.severity,
        storable(notification.title),
        storable(notification.message),
        storable_data(notification.data),
        None if notification.runbook_url is None else storable(notification.runbook_url),
        None if notification.dashboard_url is None else storable(notification.dashboard_url),
        notification.at,
        exists,
        _NO_CHANNEL,
    )


@dataclass(frozen=True, slots=True)
class NotificationState:
    """How far one notification of an alert has come; times in microseconds UTC."""

    channel: str
    action: Action
    severity: Severity
    state: State
    attempts: int
    detail: str
    """What the receiver said last; never holds a secret."""
    created_at: int
    finished_at: int | None
    next_attempt_at: int | None
    """None once nothing is to be sent any more."""

    def as_json(self) -> dict[str, Any]:
        return {
            "channel": self.channel,
            "action": self.action,
            "severity": self.severity,
            "state": self.state,
            "attempts": self.attempts,
            "detail": self.detail,
            "created_at": to_iso(self.created_at),
            "finished_at": None if self.finished_at is None else to_iso(self.finished_at),
            "next_attempt_at": None if self.next_attempt_at is None else to_iso(self.next_attempt_at),
        }


async def notifications_of(
    connection: Connection | Pool, organisation: str, alert_id: int
) -> list[NotificationState]:
    """The notifications of one alert, oldest first. Raises what `RETRYABLE` lists."""
    rows = await connection.fetch(
        "SELECT n.channel, n.action, n.severity, n.state, n.attempts, n.detail, n.created_at, n.finished_at, "
        "greatest(n.next_attempt_at, c.paused_until) AS next_attempt_at "
        "FROM alerting.notifications n LEFT JOIN alerting.channels c "
        "ON c.organisation = n.organisation AND c.key = n.channel "
        "WHERE n.organisation = $1 AND n.alert_id = $2 ORDER BY n.id",
        organisation,
        alert_id,
    )
    return [
        NotificationState(
            channel=row["channel"],
            action=row["action"],
            severity=row["severity"],
            state=row["state"],
            attempts=row["attempts"],
            detail=row["detail"],
            created_at=from_datetime(row["created_at"]),
            finished_at=None if row["finished_at"] is None else from_datetime(row["finished_at"]),
            next_attempt_at=from_datetime(row["next_attempt_at"]) if row["state"] == "pending" else None,
        )
        for row in rows
    ]

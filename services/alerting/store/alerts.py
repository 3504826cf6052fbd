"""Alerts: opened and ended by transitions, created, acknowledged and resolved over REST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.alerting.domain.change import AlertChange
from services.alerting.domain.notification import Action, Notification, dedup_key_of
from services.alerting.notifications import enqueue
from services.alerting.store.rows import ALERT_COLUMNS, AlertRow, AlertStatus, Severity, alert_row
from shared.postgres import Connection, Pool


async def change_alert(
    connection: Connection, organisation: str, key: str, change: AlertChange, now: int
) -> AlertRow | None:
    """Applies a transition in the caller's transaction and tells the channels.

    None if there is nothing to change: an alert that was resolved by hand stays resolved.
    """
    row: AlertRow | None
    if change.action == "trigger":
        row = await _open(connection, organisation, key, change, now)
    else:
        row = await _amend(connection, organisation, key, change, now)
    if row is not None:
        await _tell(connection, row, "resolve" if change.action == "resolve" else "trigger", now)
    return row


async def create_alert(pool: Pool, organisation: str, body: dict[str, Any], now: int) -> AlertRow:
    """An alert that came over REST; `body` has alert_type, title, message, severity, data_source_id and data."""
    async with pool.acquire() as connection, connection.transaction():
        row = alert_row(
            await connection.fetchrow(
                "WITH next AS (SELECT nextval(pg_get_serial_sequence('alerting.alerts', 'id')) AS id) "
                "INSERT INTO alerting.alerts (id, organisation, key, incident, version, alert_type, title, message, "
                "severity, status, data_source_id, data, created_at) OVERRIDING SYSTEM VALUE "
                "SELECT id, $1, 'api:' || id, 1, 1, $2, $3, $4, $5, 'open', $6, $7, $8 FROM next "
                f"RETURNING {ALERT_COLUMNS}",
                organisation,
                body["alert_type"],
                body["title"],
                body["message"],
                body["severity"],
                body["data_source_id"],
                body["data"],
                now,
            )
        )
        await _tell(connection, row, "trigger", now)
    return row


async def acknowledge_alert(pool: Pool, organisation: str, alert_id: int, now: int) -> tuple[AlertRow, bool] | None:
    """The alert and whether this changed it; None if there is no such alert. Only open ones change."""
    async with pool.acquire() as connection, connection.transaction():
        row = await _locked(connection, organisation, alert_id)
        if row is None or row.status != "open":
            return None if row is None else (row, False)
        changed = alert_row(
            await connection.fetchrow(
                "UPDATE alerting.alerts SET status = 'acknowledged', acknowledged_at = $2, version = version + 1 "
                f"WHERE id = $1 RETURNING {ALERT_COLUMNS}",
                alert_id,
                now,
            )
        )
        await _tell(connection, changed, "acknowledge", now)
        return changed, True


async def resolve_alert(
    pool: Pool, organisation: str, alert_id: int, notes: str | None, now: int
) -> tuple[AlertRow, bool] | None:
    """The alert and whether this changed it; None if there is no such alert."""
    async with pool.acquire() as connection, connection.transaction():
        row = await _locked(connection, organisation, alert_id)
        if row is None or row.status == "resolved":
            return None if row is None else (row, False)
        changed = alert_row(
            await connection.fetchrow(
                "UPDATE alerting.alerts SET status = 'resolved', resolved_at = $2, resolution_notes = $3, "
                f"version = version + 1 WHERE id = $1 RETURNING {ALERT_COLUMNS}",
                alert_id,
                now,
                notes,
            )
        )
        await _tell(connection, changed, "resolve", now)
        return changed, True


async def get_alert(pool: Pool, organisation: str, alert_id: int) -> AlertRow | None:
    record = await pool.fetchrow(
        f"SELECT {ALERT_COLUMNS} FROM alerting.alerts WHERE organisation = $1 AND id = $2", organisation, alert_id
    )
    return None if record is None else alert_row(record)


async def list_alerts(
    pool: Pool,
    organisation: str,
    *,
    status: AlertStatus | None,
    severity: Severity | None,
    alert_type: str | None,
    limit: int,
    offset: int,
) -> Sequence[AlertRow]:
    """Newest first."""
    records = await pool.fetch(
        f"SELECT {ALERT_COLUMNS} FROM alerting.alerts WHERE organisation = $1 "
        "AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR severity = $3) "
        "AND ($4::text IS NULL OR alert_type = $4) ORDER BY id DESC LIMIT $5 OFFSET $6",
        organisation,
        status,
        severity,
        alert_type,
        limit,
        offset,
    )
    return [alert_row(record) for record in records]


async def _open(connection: Connection, organisation: str, key: str, change: AlertChange, now: int) -> AlertRow:
    return alert_row(
        await connection.fetchrow(
            "INSERT INTO alerting.alerts (organisation, key, incident, version, alert_type, title, message, "
            "severity, status, data, notify, runbook_url, dashboard_url, created_at) "
            "SELECT $1, $2, $3, coalesce(max(version), 0) + 1, $4, $5, $6, $7, 'open', $8, $9, $10, $11, $12 "
            "FROM alerting.alerts WHERE organisation = $1 AND key = $2 "
            f"RETURNING {ALERT_COLUMNS}",
            organisation,
            key,
            change.incident,
            change.alert_type,
            change.title,
            change.message,
            change.severity,
            change.data,
            change.notify,
            change.runbook_url,
            change.dashboard_url,
            now,
        )
    )


async def _amend(
    connection: Connection, organisation: str, key: str, change: AlertChange, now: int
) -> AlertRow | None:
    record = await connection.fetchrow(
        "UPDATE alerting.alerts SET version = version + 1, severity = $4, message = $5, data = $6, notify = $7, "
        "status = CASE WHEN $8 THEN 'resolved' ELSE status END, "
        "resolved_at = CASE WHEN $8 THEN $9::bigint ELSE resolved_at END, "
        "resolution_notes = CASE WHEN $8 THEN $5 ELSE resolution_notes END "
        "WHERE organisation = $1 AND key = $2 AND incident = $3 AND status <> 'resolved' "
        f"RETURNING {ALERT_COLUMNS}",
        organisation,
        key,
        change.incident,
        change.severity,
        change.message,
        change.data,
        change.notify,
        change.action == "resolve",
        now,
    )
    return None if record is None else alert_row(record)


async def _locked(connection: Connection, organisation: str, alert_id: int) -> AlertRow | None:
    record = await connection.fetchrow(
        f"SELECT {ALERT_COLUMNS} FROM alerting.alerts WHERE organisation = $1 AND id = $2 FOR UPDATE",
        organisation,
        alert_id,
    )
    return None if record is None else alert_row(record)


async def _tell(connection: Connection, row: AlertRow, action: Action, now: int) -> None:
    notification = Notification(
        organisation=row.organisation,
        notify=None if row.notify is None else tuple(row.notify),
        alert_key=row.key,
        dedup_key=dedup_key_of(row.organisation, row.key, row.incident),
        action=action,
        severity=row.severity,
        title=row.title,
        message=(row.resolution_notes or row.message) if action == "resolve" else row.message,
        at=now,
        data=row.data,
        runbook_url=row.runbook_url,
        dashboard_url=row.dashboard_url,
        alert_id=row.id,
    )
    await enqueue(connection, [notification])

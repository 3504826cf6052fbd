"""Rows of alerts and switches, and the messages that they are published as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from shared.clock import to_iso
from shared.messages import Alert, Switch

Severity = Literal["info", "warning", "error", "critical"]
AlertStatus = Literal["open", "acknowledged", "resolved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """An incident as it stands; times in microseconds UTC."""

    id: int
    organisation: str
    key: str
    incident: int
    version: int
    alert_type: str
    title: str
    message: str
    severity: Severity
    status: AlertStatus
    data_source_id: int | None
    data: dict[str, Any]
    notify: list[str] | None
    runbook_url: str | None
    dashboard_url: str | None
    created_at: int
    acknowledged_at: int | None
    resolved_at: int | None
    resolution_notes: str | None

    def message_of(self) -> Alert:
        return Alert(
            organisation=self.organisation,
            key=self.key,
            version=self.version,
            alert_type=self.alert_type,
            title=self.title,
            severity=self.severity,
            status=self.status,
            raised_at=self.created_at,
            message=self.message,
            data=self.data,
        )

    def as_json(self) -> dict[str, Any]:
        """The alert as the REST interface shows it."""
        return {
            "id": self.id,
            "alert_type": self.alert_type,
            "alert_title": self.title,
            "alert_message": self.message,
            "severity": self.severity,
            "status": self.status,
            "data_source_id": self.data_source_id,
            "alert_data": self.data,
            "created_at": to_iso(self.created_at),
            "acknowledged_at": _iso(self.acknowledged_at),
            "resolved_at": _iso(self.resolved_at),
            "resolution_notes": self.resolution_notes,
        }


ALERT_COLUMNS = ", ".join(AlertRow.__dataclass_fields__)


def alert_row(record: Any) -> AlertRow:
    """From an `asyncpg.Record` of `ALERT_COLUMNS`."""
    return AlertRow(**dict(record))


@dataclass(frozen=True, slots=True)
class SwitchRow:
    version: int
    switch: Switch


SWITCH_COLUMNS = (
    "organisation, flag, variant, cause, version, off, admit_from, admit_to, decided_at, off_since, evidence"
)


def switch_row(record: Any) -> SwitchRow:
    """From an `asyncpg.Record` of `SWITCH_COLUMNS`."""
    values = dict(record)
    version = values.pop("version")
    return SwitchRow(version, Switch(**(values | {"variant": values["variant"] or None})))


def _iso(micros: int | None) -> str | None:
    return None if micros is None else to_iso(micros)

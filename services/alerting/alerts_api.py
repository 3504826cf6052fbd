"""Alerts over REST, by the names that the platform's clients know: /api/v1/streaming-analytics/alerts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from services.alerting.notifications import notifications_of
from services.alerting.outbox import Outbox, outgoing_alert
from services.alerting.store.alerts import acknowledge_alert, create_alert, get_alert, list_alerts, resolve_alert
from services.alerting.store.rows import AlertRow
from shared.clock import Clock
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal
from shared.messages import Alert
from shared.postgres import Pool

PREFIX = "/api/v1/streaming-analytics/alerts"
_MAX_INT8 = 2**63 - 1
_MAX_DATA = 64 * 1024


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(value)) > _MAX_DATA:
        raise ValueError(f"may have at most {_MAX_DATA} bytes as JSON")
    return value


_Who = Annotated[Principal, Depends(principal_of)]
_Severity = Annotated[Literal["info", "warning", "error", "critical"], BeforeValidator(_lower)]
_Status = Annotated[Literal["open", "acknowledged", "resolved"], BeforeValidator(_lower)]
_Type = Annotated[str, Field(strict=True, min_length=1, max_length=100)]
_Id = Annotated[int, Field(strict=True, ge=1, le=_MAX_INT8)]


class _Body(BaseModel):
    """A misspelt field is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid")


class CreateAlert(_Body):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "alert_type": "anomaly_detection",
                "alert_title": "High Error Rate Detected",
                "alert_message": "Error rate exceeded 5% threshold",
                "severity": "warning",
                "data_source_id": 1,
                "alert_data": {"error_rate": 0.067, "threshold": 0.05},
            }
        },
    )

    alert_type: _Type
    alert_title: Annotated[str, Field(strict=True, min_length=1, max_length=500)]
    alert_message: Annotated[str, Field(strict=True, max_length=10_000)] = ""
    severity: _Severity = "warning"
    data_source_id: Annotated[int, Field(strict=True, ge=-_MAX_INT8 - 1, le=_MAX_INT8)] | None = None
    alert_data: Annotated[dict[str, Any], AfterValidator(_small)] = {}


class AcknowledgeAlert(_Body):
    alert_id: _Id


class ResolveAlert(_Body):
    alert_id: _Id
    resolution_notes: Annotated[str, Field(strict=True, max_length=10_000)] | None = None


def alert_routes(pool: Pool, outbox: Outbox[Alert], clock: Clock, wake: Callable[[], None]) -> APIRouter:
    """`wake` is called when notifications wait to be delivered."""
    routes = APIRouter(route_class=StrictRoute, prefix=PREFIX, tags=["alerts"])

    def changed(row: AlertRow) -> dict[str, Any]:
        outbox.offer(outgoing_alert(row))
        wake()
        return row.as_json()

    @routes.post("", status_code=201, summary="Create alert")
    async def post_alert(body: CreateAlert, who: _Who) -> dict[str, Any]:
        """An alert of your own; every channel of the organisation hears of it."""
        fields = {
            "alert_type": body.alert_type,
            "title": body.alert_title,
            "message": body.alert_message,
            "severity": body.severity,
            "data_source_id": body.data_source_id,
            "data": body.alert_data,
        }
        return changed(await create_alert(pool, who.organisation, fields, clock()))

    @routes.get("", summary="List alerts")
    async def get_alerts(
        who: _Who,
        status: Annotated[_Status | None, Query()] = None,
        severity: Annotated[_Severity | None, Query()] = None,
        alert_type: Annotated[str | None, Query(max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    ) -> list[dict[str, Any]]:
        """Newest first."""
        found = await list_alerts(
            pool,
            who.organisation,
            status=status,
            severity=severity,
            alert_type=alert_type,
            limit=limit,
            offset=offset,
        )
        return [row.as_json() for row in found]

    @routes.post("/acknowledge", summary="Acknowledge alert")
    async def acknowledge(body: AcknowledgeAlert, who: _Who) -> dict[str, Any]:
        """Somebody looks after it. Only an open alert changes."""
        found = await acknowledge_alert(pool, who.organisation, body.alert_id, clock())
        return answer(found, body.alert_id)

    @routes.post("/resolve", summary="Resolve alert")
    async def resolve(body: ResolveAlert, who: _Who) -> dict[str, Any]:
        """It stays resolved until its condition has gone and come back. A resolved one stays as it is."""
        found = await resolve_alert(pool, who.organisation, body.alert_id, body.resolution_notes, clock())
        return answer(found, body.alert_id)

    @routes.get("/{alert_id}", summary="Show alert")
    async def show_alert(alert_id: Annotated[int, Path(ge=1, le=_MAX_INT8)], who: _Who) -> dict[str, Any]:
        """With how far its notifications have come."""
        row = await get_alert(pool, who.organisation, alert_id)
        if row is None:
            raise _unknown(alert_id)
        notifications = await notifications_of(pool, who.organisation, alert_id)
        return {**row.as_json(), "notifications": [n.as_json() for n in notifications]}

    def answer(found: tuple[AlertRow, bool] | None, alert_id: int) -> dict[str, Any]:
        if found is None:
            raise _unknown(alert_id)
        row, is_changed = found
        return changed(row) if is_changed else row.as_json()

    return routes


def _unknown(alert_id: int) -> Problem:
    return Problem(404, "alert_unknown", f"there is no alert {alert_id}")

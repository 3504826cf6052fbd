"""What REST shows of data sources."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.ingest.domain.sources.definition import BUILT_IN
from services.ingest.domain.sources.health import Health, State, health_of, shown
from services.ingest.sources.definitions import StoredSource
from services.ingest.sources.leases import Seen
from shared.clock import from_datetime, to_iso


class SourceHealth(BaseModel):
    state: str = Field(description=", ".join(state.value for state in State))
    events: int = Field(description="Accepted since the source was made")
    invalid: int = Field(description="Dead-lettered since then")
    restarts: int
    lag: int | None = Field(description="Messages that the far end has and we have not read, where it tells")
    last_event_at: str | None
    last_error: str | None
    last_error_at: str | None


class DataSource(BaseModel):
    id: int
    key: str
    source_name: str
    source_type: str
    connection_config: dict[str, Any] = Field(description="Secrets show as ********")
    description: str | None
    mapping: dict[str, Any] | None
    enabled: bool
    version: int
    created_at: str | None
    updated_at: str | None
    health: SourceHealth


class MappedSample(BaseModel):
    model_config = ConfigDict(extra="allow")

    event: dict[str, Any] | None = None
    reason: str | None = None
    detail: str | None = None


class MappingResults(BaseModel):
    results: list[MappedSample]


def answer_of(source: StoredSource, run: Seen | None, fault: str | None) -> DataSource:
    """`run` is what is known of its run, `fault` why it can have none."""
    health = Health() if run is None else health_of(run.health)
    if fault is not None:
        state, health.last_error = State.FAILED, fault
    elif not source.enabled:
        state = State.PAUSED
    elif source.spec["source_type"] == "webhook":
        state = State.RUNNING
    elif run is None or not run.held:
        state = State.WAITING
    else:
        state = health.state
    spec = source.spec
    return DataSource(
        id=source.id,
        key=source.key,
        source_name=spec.get("source_name") or source.key,
        source_type=spec["source_type"],
        connection_config=spec["connection_config"],
        description=spec.get("description"),
        mapping=spec.get("mapping"),
        enabled=source.enabled,
        version=source.version,
        created_at=to_iso(from_datetime(source.created_at)),
        updated_at=to_iso(from_datetime(source.updated_at)),
        health=SourceHealth(**shown(health, state)),
    )


BUILT_IN_SOURCE = DataSource(
    id=BUILT_IN,
    key="built-in",
    source_name="Built-in HTTP",
    source_type="builtin",
    connection_config={},
    description="Events that are sent to Tidegate itself",
    mapping=None,
    enabled=True,
    version=1,
    created_at=None,
    updated_at=None,
    health=SourceHealth(**{**shown(Health(), State.RUNNING), "events": 0}),
)

"""All kinds there are."""

from __future__ import annotations

from services.ingest.domain.kinds.experiments import EXPERIMENT_EVENTS
from services.ingest.domain.kinds.family import Demand, Family
from services.ingest.domain.kinds.predictions import PREDICTIONS
from services.ingest.domain.kinds.resources import RESOURCE_SAMPLES
from services.ingest.domain.kinds.support import SUPPORT_TICKETS
from services.ingest.domain.kinds.surveys import SURVEYS
from services.ingest.domain.telemetry.kinds import KINDS, OF_A_JOB

TELEMETRY = Family(
    "telemetry",
    "Telemetry of WebSocket connections and background jobs",
    {
        event_type: Demand(fields, ids=("job_id",) if event_type in OF_A_JOB else ())
        for event_type, fields in KINDS.items()
    },
)

FAMILIES = (TELEMETRY, EXPERIMENT_EVENTS, PREDICTIONS, SUPPORT_TICKETS, SURVEYS, RESOURCE_SAMPLES)

DEMANDS = {event_type: demand for family in FAMILIES for event_type, demand in family.kinds.items()}
"""By event type."""

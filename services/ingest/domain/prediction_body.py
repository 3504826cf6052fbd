"""Predictions as `POST …/predictions` takes them: one flat object, which becomes an event of type `prediction`.

    {prediction_type, input_data, prediction_result, model_id, confidence_score, …} ──► event_data, as it is
    {event_id, user_id, anonymous_id, session_id, job_id, data_source_id, context}  ──► the event's own
    {timestamp}                                                                     ──► its event_timestamp

So a metric reads `properties.confidence_score` and groups by `properties.prediction_type` or `properties.model_id`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from services.ingest.domain.kinds.check import fault_in
from services.ingest.domain.kinds.predictions import PREDICTION, PREDICTIONS, Prediction
from services.ingest.domain.normalise import (
    MAX_EVENT_BYTES,
    EventBody,
    Reason,
    Rejected,
    readable_id,
)
from shared import strict_json
from shared.strict_json import InvalidJsonError

ORIGIN = "prediction"
"""How dead letters name the way in."""

_OWN = ("event_id", "user_id", "anonymous_id", "session_id", "job_id", "data_source_id", "context")
_TIME = "timestamp"
_OBJECT = msgspec.json.Decoder(dict[str, Any])


class PredictionBody(Prediction, kw_only=True):
    """A prediction as clients send it; what is not named here is kept beside it."""

    timestamp: str | None = None
    event_id: str | int | float | None = None
    user_id: str | int | float | None = None
    anonymous_id: str | int | float | None = None
    session_id: str | int | float | None = None
    job_id: str | int | float | None = None
    data_source_id: int | None = None
    context: dict[str, Any] | None = None


def read_prediction(raw: bytes) -> EventBody | Rejected:
    """The event that one JSON object describes."""
    if len(raw) > MAX_EVENT_BYTES:
        detail = f"a prediction may have at most {MAX_EVENT_BYTES} bytes; this has {len(raw)}"
        return Rejected(Reason.TOO_LARGE, detail)
    try:
        given = strict_json.decode(raw, _OBJECT)
        if strict_json.openings(raw) >= strict_json.MAX_DEPTH:
            strict_json.check({"event_data": given})  # where it lies one level deeper
    except InvalidJsonError as error:
        return Rejected(Reason(error.violation.value), str(error), readable_id(raw))
    data = {name: value for name, value in given.items() if name not in _OWN and name != _TIME}
    own = {name: given[name] for name in _OWN if name in given}
    try:
        body = msgspec.convert(
            {"event_type": PREDICTION, "event_data": data, "event_timestamp": given.get(_TIME), **own}, EventBody
        )
    except msgspec.ValidationError as error:
        return Rejected(Reason.SCHEMA, str(error).replace("$.event_timestamp", "$.timestamp"), readable_id(raw))
    fault = fault_in(PREDICTIONS.kinds[PREDICTION], data, place="")
    return body if fault is None else Rejected(Reason.SCHEMA, f"{PREDICTION}: {fault}", readable_id(raw))

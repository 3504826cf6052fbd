"""Which events somebody asks to see, and as what they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from services.aggregator.domain.event import MAX_AHEAD, DecodedEvent
from services.aggregator.domain.values import INVALID
from shared.clock import to_iso

_PREDICTION = ("prediction_type", "input_data", "prediction_result", "model_id", "confidence_score")
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What events must be like; None asks for nothing. Times are the events' own, in µs UTC, `until` excluded."""

    organisation: str
    event_type: str | None = None
    event_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    job_id: str | None = None
    data_source_id: int | None = None
    since: int | None = None
    until: int | None = None
    prediction_type: str | None = None
    model_id: str | None = None
    """Also of a model whose id is a number."""

    @property
    def stored_since(self) -> int | None:
        """Before this (µs UTC) Kafka took nothing that is wanted: no event is stored earlier than a day ahead."""
        return None if self.since is None else self.since - MAX_AHEAD

    def signs(self) -> tuple[bytes, ...]:
        """What stands in the record of every event that is wanted; looking for it spares decoding most others."""
        texts = (
            self.organisation,
            self.event_type,
            self.event_id,
            self.user_id,
            self.anonymous_id,
            self.session_id,
            self.job_id,
            self.prediction_type,
        )
        # ASCII without escapes is written in one way only.
        return tuple(_ENCODER.encode(text) for text in texts if text and text.isascii() and text.isprintable())

    def of(self, event: DecodedEvent) -> DecodedEvent | None:
        """The event if it is wanted."""
        for asked, said in (
            (self.organisation, event.organisation),
            (self.event_type, event.event_type),
            (self.event_id, event.event_id),
            (self.user_id, event.user_id),
            (self.anonymous_id, event.anonymous_id),
            (self.session_id, event.session_id),
            (self.job_id, event.job_id),
            (self.data_source_id, event.data_source_id),
        ):
            if asked is not None and asked != said:
                return None
        if (self.since is not None and event.time < self.since) or (
            self.until is not None and event.time >= self.until
        ):
            return None
        if self.prediction_type is not None and event.properties.get("prediction_type") != self.prediction_type:
            return None
        if self.model_id is not None and _text(event.properties.get("model_id")) != self.model_id:
            return None
        return event


def shown(event: DecodedEvent) -> dict[str, Any]:
    """As clients sent it."""
    return {
        "event_id": event.event_id,
        "data_source_id": event.data_source_id,
        "event_type": event.event_type,
        "event_data": _readable(event.properties),
        "event_timestamp": to_iso(event.time),
        "user_id": event.user_id,
        "anonymous_id": event.anonymous_id,
        "session_id": event.session_id,
        "job_id": event.job_id,
        "context": _readable(event.context),
    }


def shown_prediction(event: DecodedEvent) -> dict[str, Any] | None:
    """As clients sent it; what they added of their own is in `extra`. None of an event that is no prediction."""
    data = _readable(event.properties)
    if not isinstance(data.get("prediction_type"), str):
        return None
    return {
        "event_id": event.event_id,
        **{name: data.get(name) for name in _PREDICTION},
        "timestamp": to_iso(event.time),
        "data_source_id": event.data_source_id,
        "user_id": event.user_id,
        "anonymous_id": event.anonymous_id,
        "session_id": event.session_id,
        "job_id": event.job_id,
        "context": _readable(event.context),
        "extra": {name: value for name, value in data.items() if name not in _PREDICTION},
    }


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _readable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is there but cannot be read, such as 1e400."""
    return {name: value for name, value in tree.items() if value is not INVALID}

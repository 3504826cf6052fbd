"""From a dead letter and what somebody changes of it to the event body that is judged again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.ingest.domain.normalise import EventBody, Reason, Rejected, read_event
from shared import strict_json
from shared.clock import to_iso
from shared.messages import DeadLetter
from shared.strict_json import InvalidJsonError
from shared.topics import EVENTS

Reader = Callable[[bytes], EventBody | Rejected]
"""What the bytes that one way in received say."""

_RECORD_ID = f"{EVENTS.name}-"
_EVENT_IDS = uuid.UUID("a3b1c6a4-3f0f-5c0e-9d5e-8f6f0b1d2c3e")


@dataclass(frozen=True, slots=True)
class Correction:
    """`event` instead of what was received; then fields are renamed; then the JSON merge patch (RFC 7396) is applied.

    Names of fields are paths such as `event_data.jobId`.
    """

    event: Mapping[str, Any] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    patch: Mapping[str, Any] | None = None

    def changes_nothing(self) -> bool:  # a property of the value, no decision
        return self.event is None and not self.rename and self.patch is None


def event_of(
    letter: DeadLetter, correction: Correction, read: Reader = read_event
) -> tuple[bytes, EventBody | Rejected]:
    """The bytes and what they say, as `Intake` takes them.

    An event without an id gets one that only depends on the letter; one without a time gets the letter's arrival.
    `read` reads what was received, patched or not; an event that is given instead has the form of one sent over HTTP,
    and so has what has been redacted.
    """
    if letter.kept == "redacted":
        read = read_event
    given = _corrected(letter, correction, read)
    body = given[1]
    if isinstance(body, EventBody):
        if body.event_id is None or body.event_id == "":
            body.event_id = str(uuid.uuid5(_EVENT_IDS, letter.id))
        if body.event_timestamp is None:
            body.event_timestamp = to_iso(letter.received_at)
    return given


def _corrected(letter: DeadLetter, correction: Correction, read: Reader) -> tuple[bytes, EventBody | Rejected]:
    if correction.changes_nothing() and not _is_record(letter):
        return letter.payload, read(letter.payload)
    try:
        document = strict_json.loads(letter.payload) if correction.event is None else dict(correction.event)
    except InvalidJsonError as error:
        return letter.payload, Rejected(Reason(error.violation.value), str(error))
    if not isinstance(document, dict):
        return letter.payload, Rejected(Reason.SCHEMA, "an event is a JSON object")
    for old, new in correction.rename.items():
        _move(document, old.split("."), new.split("."))
    if correction.patch is not None:
        document = merge_patch(document, correction.patch)
    if _is_record(letter):
        document = _as_sent(document)
    raw = msgspec.json.encode(document)
    return raw, read(raw) if correction.event is None else read_event(raw)


def _is_record(letter: DeadLetter) -> bool:
    """An unreadable record of `events.v1` is, or was meant to be, in the canonical form."""
    return letter.partition is not None and letter.id.startswith(_RECORD_ID)


def _as_sent(record: Mapping[str, Any]) -> dict[str, Any]:
    """The event as it would be sent over HTTP; what is there in that form already wins."""
    sent = {name: value for name, value in record.items() if name not in _CANONICAL}
    if record.get("properties") is not None:
        sent.setdefault("event_data", record["properties"])
    if record.get("time") is not None:
        sent.setdefault("event_timestamp", _timestamp(record["time"]))
    return sent


_CANONICAL = frozenset({"organisation", "received_at", "time", "properties"})


def _timestamp(time: Any) -> str:
    """What is no time becomes text that is none either, and is refused as such."""
    if isinstance(time, int) and not isinstance(time, bool):
        try:
            return to_iso(time)
        except OverflowError:
            return str(time)
    return time if isinstance(time, str) else str(time)


def _move(document: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Nothing happens if the field is not there, or if its new place lies within what is no object."""
    source = _parent(document, old, make=False)
    if source is None or old[-1] not in source or old == new:
        return
    value = source.pop(old[-1])  # first, so that a field may move into one that takes its place
    target = _parent(document, new, make=True)
    if target is None:
        source[old[-1]] = value
    else:
        target[new[-1]] = value


def _parent(document: dict[str, Any], path: list[str], *, make: bool) -> dict[str, Any] | None:
    place: Any = document
    for name in path[:-1]:
        if make and name not in place:
            place[name] = {}
        place = place.get(name)
        if not isinstance(place, dict):
            return None
    found: dict[str, Any] = place
    return found


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes, everything else replaces. Nothing given is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged

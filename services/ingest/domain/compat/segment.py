"""Segment's six calls as events. The rule stands in docs/compatibility.md.

timestamp = received − (sentAt − original)        event_type = a track's event, else the call's own name
user_id, anonymous_id = userId, anonymousId       an alias links previousId (as the visitor) to userId
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.ingest.domain.compat.envelope import Frame, read
from services.ingest.domain.compat.times import corrected
from services.ingest.domain.normalise import EventBody, Id, Reason, Rejected

MAX_MESSAGE_BYTES = 32 * 1024
MAX_BATCH_BYTES = 500 * 1024

CALLS = ("track", "identify", "page", "screen", "group", "alias")


class Message(msgspec.Struct, rename="camel", gc=False):
    """One call as clients send it; `integrations` and what is not named here are ignored."""

    type: str | None = None
    event: Any = None
    name: Any = None
    category: Any = None
    message_id: Id = None
    user_id: Id = None
    anonymous_id: Id = None
    previous_id: Id = None
    group_id: Id = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    sent_at: Any = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class Batch(Frame, rename="camel"):
    """A request to `/v1/batch`: what its messages have in common, and they themselves."""

    write_key: Any = None
    sent_at: Any = None
    context: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Common:
    """What a request says of all its messages."""

    received_at: int | None = None
    """Microseconds UTC. If it is not known, no time is corrected."""
    sent_at: Any = None
    context: Mapping[str, Any] = field(default_factory=dict)


BATCHES = msgspec.json.Decoder(Batch)
_MESSAGES = msgspec.json.Decoder(Message)


def event_of(raw: bytes, common: Common, call: str | None = None) -> EventBody | Rejected:
    """The event that a message describes. `call` is its type if the path says it."""
    message = read(raw, _MESSAGES, id_field="messageId", limit=MAX_MESSAGE_BYTES)
    if isinstance(message, Rejected):
        return message
    return _translated(message, common, call or message.type)


def _translated(message: Message, common: Common, call: str | None) -> EventBody | Rejected:
    if call not in CALLS:
        return _refused(message, Reason.SCHEMA, f"type must be one of {', '.join(CALLS)}")
    anonymous = message.anonymous_id if call != "alias" else message.previous_id or message.anonymous_id
    if message.user_id in (None, "") and anonymous in (None, ""):
        return _refused(message, Reason.UNIT_MISSING, "userId or anonymousId is needed")
    event_type = call
    if call == "track":
        if not isinstance(message.event, str):
            return _refused(message, Reason.SCHEMA, "a track call needs the text event")
        event_type = message.event
    own = {**common.context, **(message.context or {})}
    context = {**_flat(own), **own}
    return EventBody(
        event_type=event_type,
        event_id=message.message_id,
        user_id=message.user_id,
        anonymous_id=anonymous,
        session_id=_session(own),
        event_timestamp=_time(message, common, context),
        context=context,
        event_data=_properties(message, call),
    )


def _refused(message: Message, reason: Reason, detail: str) -> Rejected:
    return Rejected(reason, detail, message.message_id if isinstance(message.message_id, str) else None)


def _time(message: Message, common: Common, context: dict[str, Any]) -> str | None:
    """A message with both its times has been corrected before, by whoever passed it on."""
    original = message.original_timestamp or message.timestamp
    if original is None:
        return None
    if message.original_timestamp and message.timestamp:
        context["originalTimestamp"] = original
        return message.timestamp
    sent_at = message.sent_at or common.sent_at
    if sent_at is None or common.received_at is None:
        return original
    context["originalTimestamp"] = original
    return corrected(original, sent_at, common.received_at)


def _properties(message: Message, call: str) -> dict[str, Any]:
    given = (message.traits if call in ("identify", "group") else message.properties) or {}
    named: dict[str, Any] = {}
    if call in ("page", "screen"):
        named = {"name": message.name, "category": message.category}
    elif call == "group":
        named = {"groupId": message.group_id}
    elif call == "alias":
        named = {"previousId": message.previous_id}
    return {**{name: value for name, value in named.items() if value is not None}, **given}


def _flat(context: Mapping[str, Any]) -> dict[str, Any]:
    """The names that every way in uses, from where Segment puts these things."""
    found = {
        "appVersion": _text_in(context, "app", "version"),
        "osName": _text_in(context, "os", "name"),
        "osVersion": _text_in(context, "os", "version"),
        "deviceModel": _text_in(context, "device", "model"),
        "networkType": _network(context.get("network")),
    }
    return {name: value for name, value in found.items() if value}


def _text_in(context: Mapping[str, Any], part: str, name: str) -> str | None:
    inner = context.get(part)
    value = inner.get(name) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else None


def _network(network: Any) -> str | None:
    if not isinstance(network, dict):
        return None
    return next((kind for kind in ("wifi", "cellular", "bluetooth") if network.get(kind) is True), None)


def _session(context: Mapping[str, Any]) -> Id:
    value = context.get("sessionId")
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None

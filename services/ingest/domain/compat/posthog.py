"""PostHog's captured events as ours. The rule stands in docs/compatibility.md.

                               user_id          anonymous_id
$identify, $merge_dangerously  distinct_id      $anon_distinct_id, alias
$create_alias                  distinct_id      alias             (posthog-python: the other way round)
$is_identified false,
$process_person_profile false  –                distinct_id
anything else                  distinct_id      –
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from services.ingest.domain.compat.envelope import Frame, read
from services.ingest.domain.compat.times import before, corrected
from services.ingest.domain.normalise import MAX_EVENT_BYTES, EventBody, Id, Reason, Rejected

PYTHON_LIBRARY = "posthog-python"

_COOKIELESS = "$posthog_cookieless"
"""Stands for a visitor whom the client does not know."""
_GENERIC = frozenset(
    (
        *("anonymous", "guest", "distinctid", "distinct_id", "id", "not_authenticated", "email", "undefined"),
        *("true", "false", "null", "none", "nan", "0", "[object object]"),
    )
)
"""What broken clients send for an id: a link to one of these would make many people one."""
_KEYS = ("token", "api_key")


class Captured(msgspec.Struct, gc=False):
    """One event as clients of either version of the protocol send it; what is not named here is ignored."""

    event: str
    uuid: str | None = None
    distinct_id: Id = None
    properties: dict[str, Any] | None = None
    timestamp: str | None = None
    sent_at: Any = None
    offset: Any = None
    session_id: Id = None
    options: dict[str, Any] | None = None
    set: dict[str, Any] | None = msgspec.field(default=None, name="$set")
    set_once: dict[str, Any] | None = msgspec.field(default=None, name="$set_once")


class Batch(Frame):
    """A request that carries a list of events, and what they have in common."""

    api_key: Any = None
    token: Any = None
    sent_at: Any = None


@dataclass(frozen=True, slots=True)
class Common:
    """What a request says of all its events."""

    received_at: int | None = None
    """Microseconds UTC. If it is not known, no time is corrected."""
    sent_at: Any = None
    library: str | None = None
    """`name/version`, where a header says it instead of the properties."""


class _Ids(NamedTuple):
    user: Id
    anonymous: Id


BATCHES = msgspec.json.Decoder(Batch)
_EVENTS = msgspec.json.Decoder(Captured)


def event_of(raw: bytes, common: Common) -> EventBody | Rejected:
    """The event that was captured."""
    captured = read(raw, _EVENTS, id_field="uuid", limit=MAX_EVENT_BYTES)
    return captured if isinstance(captured, Rejected) else _translated(captured, common)


def _translated(captured: Captured, common: Common) -> EventBody | Rejected:
    properties = dict(captured.properties or {})
    for key in _KEYS:
        properties.pop(key, None)
    for name, value in (("$set", captured.set), ("$set_once", captured.set_once)):
        if value is not None:
            properties.setdefault(name, value)
    options = captured.options or {}
    distinct_id = _id(captured.distinct_id) or _id(properties.pop("distinct_id", None))
    if distinct_id is None:
        return Rejected(Reason.UNIT_MISSING, "distinct_id is needed", captured.uuid)
    ids = _ids(captured.event, distinct_id, properties, options, _library(properties, common))
    context = _context(properties, common)
    return EventBody(
        event_type=captured.event,
        event_id=captured.uuid or _id(properties.get("$insert_id")),
        user_id=ids.user,
        anonymous_id=ids.anonymous,
        session_id=_id(captured.session_id) or _id(properties.get("$session_id")),
        event_timestamp=_time(captured, common, properties, options, context),
        context=context,
        event_data=properties,
    )


def _ids(
    event: str, distinct_id: Id, properties: Mapping[str, Any], options: Mapping[str, Any], library: str | None
) -> _Ids:
    other = _id(properties.get("alias"))
    if event == "$create_alias" and library == PYTHON_LIBRARY:
        return _linked(user=other, anonymous=distinct_id)
    if event in ("$create_alias", "$merge_dangerously"):
        return _linked(user=distinct_id, anonymous=other)
    if event == "$identify":
        return _linked(user=distinct_id, anonymous=_id(properties.get("$anon_distinct_id")))
    if event == "$groupidentify" or distinct_id == _COOKIELESS:
        return _Ids(None, None)
    personless = options.get("process_person_profile", properties.get("$process_person_profile")) is False
    if properties.get("$is_identified") is False or (personless and properties.get("$is_identified") is not True):
        return _Ids(None, distinct_id)
    return _Ids(distinct_id, None)


def _linked(*, user: Id, anonymous: Id) -> _Ids:
    """Both, if that makes a link that can be meant; else the one there is."""
    if user is None or _is_generic(user):
        return _Ids(None, anonymous) if anonymous is not None else _Ids(user, None)
    if anonymous is None or anonymous == user or _is_generic(anonymous):
        return _Ids(user, None)
    return _Ids(user, anonymous)


def _is_generic(value: Id) -> bool:
    return str(value).strip().lower() in _GENERIC


def _id(value: Any) -> Id:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if value != "" else None


def _time(
    captured: Captured,
    common: Common,
    properties: Mapping[str, Any],
    options: Mapping[str, Any],
    context: dict[str, Any],
) -> str | None:
    if captured.timestamp is None:
        return None if common.received_at is None else before(common.received_at, captured.offset)
    sent_at = captured.sent_at or common.sent_at
    is_exact = options.get("disable_skew_correction") is True or properties.get("$ignore_sent_at")
    if sent_at is None or common.received_at is None or is_exact:
        return captured.timestamp
    context["originalTimestamp"] = captured.timestamp
    return corrected(captured.timestamp, sent_at, common.received_at)


def _library(properties: Mapping[str, Any], common: Common) -> str | None:
    name = properties.get("$lib")
    if isinstance(name, str):
        return name
    return common.library.partition("/")[0] if common.library else None


def _context(properties: Mapping[str, Any], common: Common) -> dict[str, Any]:
    """The names that every way in uses; the properties stay as they are."""
    network = "wifi" if properties.get("$network_wifi") is True else None
    network = network or ("cellular" if properties.get("$network_cellular") is True else None)
    found: dict[str, Any] = {
        "appVersion": properties.get("$app_version"),
        "osName": properties.get("$os"),
        "osVersion": properties.get("$os_version"),
        "deviceModel": properties.get("$device_model"),
        "networkType": network,
        "userAgent": properties.get("$raw_user_agent"),
    }
    context: dict[str, Any] = {name: value for name, value in found.items() if isinstance(value, str) and value}
    library = _library(properties, common)
    if library is not None:
        version = properties.get("$lib_version") or (common.library or "").partition("/")[2]
        context["library"] = {"name": library, "version": version}
    return context

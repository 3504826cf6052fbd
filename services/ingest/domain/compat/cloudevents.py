"""CloudEvents 1.0 as ours, from their JSON format. The rule stands in docs/compatibility.md.

event_id = source and id     event_type = type     event_timestamp = time     properties = data
userid, anonymousid, sessionid, jobid (extensions) → the ids; if there is none at all, subject or partitionkey
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from services.ingest.domain.compat.envelope import readable_id
from services.ingest.domain.normalise import MAX_EVENT_BYTES, MAX_ID_CHARACTERS, EventBody, Id, Reason, Rejected
from shared import strict_json
from shared.strict_json import InvalidJsonError, Violation

SPECVERSION = "1.0"

_OBJECTS = msgspec.json.Decoder(dict[str, Any])
_ID_EXTENSIONS = ("userid", "anonymousid", "sessionid", "jobid")
_IDS_IN_DATA = ("userId", "anonymousId", "sessionId", "jobId", "importJobId", "migrationJobId")
_READ = frozenset((*_ID_EXTENSIONS, "specversion", "id", "type", "time", "data", "data_base64"))
"""Attributes that become fields of the event; the others go into its context."""
_PREFIX = b"ce-"


def event_of(raw: bytes) -> EventBody | Rejected:
    """The event that one document in the JSON format describes."""
    if len(raw) > MAX_EVENT_BYTES:
        detail = f"an event may have at most {MAX_EVENT_BYTES} bytes; this has {len(raw)}"
        return Rejected(Reason.TOO_LARGE, detail, readable_id(raw, "id"))
    try:
        return _translated(strict_json.decode(raw, _OBJECTS))
    except InvalidJsonError as error:
        return Rejected(Reason(error.violation.value), str(error), readable_id(raw, "id"))


def _translated(event: dict[str, Any]) -> EventBody | Rejected:
    identity, event_type = event.get("id"), event.get("type")
    shown = identity if isinstance(identity, str) and len(identity) <= MAX_ID_CHARACTERS else None
    version = event.get("specversion")
    if version != SPECVERSION:
        detail = f"specversion must be {SPECVERSION}, not {str(version)[:20]!r}"
        return Rejected(Reason.SPECVERSION, detail, shown)
    source = event.get("source")
    for name, value in (("id", identity), ("source", source), ("type", event_type)):
        if not isinstance(value, str) or not value:
            return Rejected(Reason.SCHEMA, f"the attribute {name} must be text that is not empty", shown)
    time = event.get("time")
    if time is not None and not isinstance(time, str):
        return Rejected(Reason.TIMESTAMP, "time must be RFC 3339 text", shown)
    data = _data(event)
    if isinstance(data, str):
        return Rejected(Reason.SCHEMA, data, shown)
    ids = {name: _id(event.get(name)) for name in _ID_EXTENSIONS}
    if not any(ids.values()) and not any(_id(data.get(name)) for name in _IDS_IN_DATA):
        ids["userid"] = _id(event.get("subject")) or _id(event.get("partitionkey"))
    context = {name: value for name, value in event.items() if name not in _READ and value is not None}
    return EventBody(
        event_type=str(event_type),
        event_id=unique_id(str(source), str(identity)),
        user_id=ids["userid"],
        anonymous_id=ids["anonymousid"],
        session_id=ids["sessionid"],
        job_id=ids["jobid"],
        event_timestamp=time,
        context={"cloudevent": context},
        event_data=data,
    )


def unique_id(source: str, identity: str) -> str:
    """One text for the pair that names a CloudEvent, readable where it fits; no two pairs share one."""
    readable = f"{source} {identity}"
    if len(readable) <= MAX_ID_CHARACTERS and " " not in source:
        return readable
    return "sha256:" + hashlib.sha256(json.dumps([source, identity]).encode()).hexdigest()


def _data(event: Mapping[str, Any]) -> dict[str, Any] | str:
    """The properties, or what is wrong with the data. What is no object stands under the name of its attribute."""
    data, encoded = event.get("data"), event.get("data_base64")
    if encoded is None:
        if data is None:
            return {}
        return data if isinstance(data, dict) else {"data": data}
    if data is not None:
        return "data and data_base64 exclude each other"
    if not isinstance(encoded, str):
        return "data_base64 must be text"
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return "data_base64 is no Base64"
    media_type = event.get("datacontenttype")
    if isinstance(media_type, str) and is_json(media_type):
        try:
            value = strict_json.loads(content)
        except InvalidJsonError as error:
            return f"data_base64: {error}"
        return value if isinstance(value, dict) else {"data": value}
    return {"data_base64": encoded}


def _id(value: Any) -> Id:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if value != "" else None


def is_json(media_type: str) -> bool:
    kind = media_type.partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json"))


def structured(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes | Rejected:
    """What arrived over HTTP in binary mode, as `document`; names of `headers` are lower-case."""
    attributes: dict[str, str] = {}
    media_type: str | None = None
    for name, value in headers:
        if name.startswith(_PREFIX) and len(name) > len(_PREFIX):
            attributes.setdefault(name[len(_PREFIX) :].decode("latin-1"), _attribute(value))
        elif name == b"content-type" and media_type is None:
            media_type = value.decode("latin-1").strip()
    return document(attributes, media_type, body)


def document(attributes: Mapping[str, str], media_type: str | None, data: bytes) -> bytes | Rejected:
    """Attributes and data as one document in the JSON format.

    JSON data stays JSON, text becomes a string and all else Base64. Data without a media type is JSON if it can be.
    """
    event = without_data(attributes, media_type)
    if not data:
        return msgspec.json.encode(event)
    if media_type and not is_json(media_type):
        return msgspec.json.encode({**event, **_other_data(media_type, data)})
    text = utf8(data, charset_of(media_type or ""))
    if isinstance(text, Rejected):
        return text
    try:
        strict_json.loads(text)
    except InvalidJsonError as error:
        if error.violation is Violation.MALFORMED:
            if not media_type:
                return msgspec.json.encode({**event, **_other_data("", data)})
            return Rejected(Reason.MALFORMED, str(error), _shown(event.get("id")))
        # Any other fault is found in the document again, which a dead letter keeps with its attributes.
    return msgspec.json.encode({**event, "data": msgspec.Raw(text)})


def without_data(attributes: Mapping[str, str], media_type: str | None) -> dict[str, Any]:
    """The attributes of what was sent in binary mode; its content type is one of them."""
    event = {name: value for name, value in attributes.items() if name not in ("data", "data_base64")}
    return {**event, "datacontenttype": media_type} if media_type else event


def _other_data(media_type: str, body: bytes) -> dict[str, str]:
    if media_type.lower().startswith("text/"):
        charset = charset_of(media_type)
        if charset in _CHARSETS:
            try:
                return {"data": body.decode(charset)}
            except UnicodeDecodeError:
                pass
    return {"data_base64": base64.b64encode(body).decode()}


def _attribute(value: bytes) -> str:
    """Percent-encoded in headers; some senders leave UTF-8 as it is, and older ones put quotes around it."""
    raw = unquote_to_bytes(value.strip())
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _shown(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= MAX_ID_CHARACTERS and "\x00" not in value else None


def charset_of(media_type: str) -> str:
    """UTF-8 unless the media type names another."""
    for parameter in media_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower() or "utf-8"
    return "utf-8"


_CHARSETS = frozenset(
    (
        *("utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "iso-8859-15", "windows-1252"),
        *("utf-16", "utf-16le", "utf-16be", "utf-32", "utf-32le", "utf-32be"),
    )
)


def utf8(body: bytes, charset: str) -> bytes | Rejected:
    """The text in UTF-8."""
    if charset not in _CHARSETS:
        return Rejected(Reason.SCHEMA, f"the charset {charset[:40]!r} is not supported; send UTF-8")
    if charset in ("utf-8", "utf8"):
        return body.removeprefix(b"\xef\xbb\xbf")
    try:
        return body.decode(charset).encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        return Rejected(Reason.MALFORMED, f"the body is not {charset}: {error.reason}")

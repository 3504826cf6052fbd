"""What a client says over a socket, one JSON object a message.

{"type":"hello","key":"tg_…","context":{"appVersion":"3.1"}}        first, where headers could not be set
{"seq":7,"event_type":"…","event_id":"…", …}                        one event
{"seq":8,"events":[{"event_type":"…", …}, …]}                       several
{"type":"ping","nonce":"…"}                                         answered at once with the same nonce
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from services.ingest.domain.batch_body import BatchFault, NoBatch, events_of
from services.ingest.domain.client_context import CONTEXT_HEADERS, MAX_HEADER_CHARACTERS

MAX_MESSAGE_EVENTS = 1_000
MAX_SEQ = 2**53 - 1
"""What every client's numbers hold exactly."""
MAX_NONCE_CHARACTERS = 200


class FrameFault(Enum):
    """Why a message holds no events at all; the value is the machine-readable reason."""

    MALFORMED = BatchFault.MALFORMED.value
    SCHEMA = BatchFault.SCHEMA.value
    EMPTY = BatchFault.EMPTY.value
    TOO_LONG = BatchFault.TOO_LONG.value
    SEQ = "seq_invalid"
    NONCE = "nonce_invalid"


@dataclass(frozen=True, slots=True)
class Hello:
    """Who connects, where the upgrade request could not say so."""

    key: str | None = field(default=None, repr=False)
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ping:
    nonce: str | int | None


@dataclass(frozen=True, slots=True)
class Events:
    """The bytes of each event; `seq` is the client's own number of the message."""

    seq: int | None
    raws: list[bytes]


@dataclass(frozen=True, slots=True)
class NoFrame:
    seq: int | None
    fault: FrameFault
    detail: str


class _Frame(msgspec.Struct):
    type: Raw | UnsetType = UNSET
    seq: Raw | UnsetType = UNSET
    nonce: Raw | UnsetType = UNSET
    key: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    event_type: Raw | UnsetType = UNSET
    events: Raw | UnsetType = UNSET


_FRAME = msgspec.json.Decoder(_Frame)


def read_frame(raw: bytes) -> Hello | Ping | Events | NoFrame:
    """Raises nothing for any input. A single event is handed on as it came, whatever it is."""
    try:
        frame = _FRAME.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # One hostile event makes the whole message unreadable for the parser; the others are to be had nevertheless.
        elements = events_of(raw)
        return Events(None, [raw]) if isinstance(elements, NoBatch) else _bounded(None, elements)
    seq = None if frame.seq is UNSET else _value(frame.seq)
    if not (seq is None or (isinstance(seq, int) and not isinstance(seq, bool) and 0 <= seq <= MAX_SEQ)):
        return NoFrame(None, FrameFault.SEQ, f"seq must be an integer from 0 to {MAX_SEQ}")
    if frame.events is not UNSET:
        elements = events_of(raw)
        if isinstance(elements, NoBatch):
            return NoFrame(seq, FrameFault(elements.fault.value), elements.detail)
        return _bounded(seq, elements)
    if frame.event_type is UNSET and frame.type is not UNSET:
        kind = _value(frame.type)
        if kind == "hello":
            return _hello(frame)
        if kind == "ping":
            return _ping(frame)
    return Events(seq, [raw])


def context_from(fields: Mapping[str, Any]) -> dict[str, str]:
    """The client's context from a greeting or a URL's query, under the names that an event's context uses."""
    return {
        name: text
        for name in CONTEXT_HEADERS.values()
        if isinstance(value := fields.get(name), str) and (text := _safe(value).strip()[:MAX_HEADER_CHARACTERS])
    }


def _bounded(seq: int | None, elements: list[bytes]) -> Events | NoFrame:
    if len(elements) > MAX_MESSAGE_EVENTS:
        return NoFrame(seq, FrameFault.TOO_LONG, f"a message may hold at most {MAX_MESSAGE_EVENTS} events")
    return Events(seq, elements)


def _hello(frame: _Frame) -> Hello:
    key = None if frame.key is UNSET else _value(frame.key)
    context = None if frame.context is UNSET else _value(frame.context)
    return Hello(
        key=key if isinstance(key, str) else None, context=context_from(context) if isinstance(context, dict) else {}
    )


def _ping(frame: _Frame) -> Ping | NoFrame:
    nonce = None if frame.nonce is UNSET else _value(frame.nonce)
    if isinstance(nonce, str) and len(nonce) <= MAX_NONCE_CHARACTERS:
        return Ping(_safe(nonce))
    if nonce is None or (isinstance(nonce, int) and not isinstance(nonce, bool)):
        return Ping(nonce)
    return NoFrame(None, FrameFault.NONCE, f"nonce must be an integer or text of at most {MAX_NONCE_CHARACTERS}")


def _value(part: Raw) -> Any:
    """A part of a message that has been parsed once, so that it can only fail for what parsers let pass in Raw."""
    try:
        return msgspec.json.decode(part)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ...


def _safe(text: str) -> str:
    return text.replace("\x00", "")

"""A record of `events.v1`, decoded alone: one bad record spoils nothing but itself.

Only what somebody reads of `properties` and `context` is decoded: that is most of the work saved. Whether a record
holds an event must not depend on that, so there is one judge, `_judge`, who looks at a record's bytes only:

    all records ── decoded in one go ──► events
                         │ fails, or looks odd
                         ▼
                  _judge, one by one ──► an event, or why there is none

What decoding takes in one go, `_judge` would take too, with the same values: decoding skips what nobody reads by the
same grammar, and the two things that skipping does not look at (UTF-8 and depth) are looked at for all bytes at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, cast

import msgspec
import numpy as np

from services.aggregator.domain.projection import EVERYTHING, Projection, Tree
from services.aggregator.domain.values import INVALID
from shared.clock import DAY

EARLIEST = 946_684_800_000_000
"""2000-01-01."""
_LATEST = 32_503_680_000_000_000
"""3000-01-01: keeps every time inside 64 bits and Postgres's calendar."""
MAX_DEPTH = 64
"""What is nested deeper below the event can be folded, but not shown: most programs refuse to write it."""
MAX_AHEAD = DAY
"""An event may lie this far ahead of the broker's clock."""

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Organisation = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""Part of primary keys: Postgres refuses index entries of more than 2,700 bytes."""
_Time = Annotated[int, msgspec.Meta(ge=EARLIEST, le=_LATEST)]


class _Fields(msgspec.Struct, gc=False):
    organisation: _Organisation
    event_id: _Id
    event_type: _Id
    time: _Time
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    job_id: str | None = None
    data_source_id: int = 1


class DecodedEvent(_Fields, gc=False):
    """`shared.messages.Event` as the fold reads it: bounded, mutable for speed, never mutated.

    `context` and `properties` are dicts where everything is read, else objects that only their tree can read.
    """

    context: Any = {}
    properties: Any = {}


class _RawEvent(_Fields, gc=False):
    context: msgspec.Raw = msgspec.Raw(b"{}")
    properties: msgspec.Raw = msgspec.Raw(b"{}")


class Unreadable(Enum):
    """Why a record is dead-lettered; the value is the machine-readable reason."""

    EMPTY = "empty"
    MALFORMED = "malformed_json"
    SCHEMA = "schema_violation"
    DEPTH = "too_deep"
    NUL = "nul_character"
    AHEAD = "time_out_of_range"


Refusal = tuple[Unreadable, str]
"""Why there is no event, and what exactly is wrong."""

AHEAD: Refusal = (Unreadable.AHEAD, "the event lies more than 24 h ahead of the broker's clock")

_BRACE, _BRACKET = np.uint8(ord("{")), np.uint8(ord("["))
AT_ONCE = 512
"""Values that are best decoded at once: few enough for the processor's caches."""
_NONE = DecodedEvent("", "", "", 0)
"""Stands where a value could not be decoded."""

_RAW_EVENTS = msgspec.json.Decoder(_RawEvent)
_RAW_VALUES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUES = msgspec.json.Decoder(Any)
_TEXTS = attrgetter("organisation", "event_id", "event_type", "user_id", "anonymous_id", "session_id", "job_id")

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""Any escape in JSON; the group is there if it is half of a surrogate pair without the other."""
_MARK = "\ufdd0"
"""Stands for lone surrogates while a record that holds some is decoded: no character, so that nobody means it."""
_MARKS = (_MARK.encode(), b"\\ufdd0", b"\\uFDD0")
_STRING_OR_OTHER = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+', re.DOTALL)
_INNERMOST = re.compile(rb"\[\]|\{\}")


class EventReader:
    """Decodes events, and of their properties and context what the projection names."""

    def __init__(self, projection: Projection) -> None:
        self.properties = Tree(projection.properties)
        self.context = Tree(projection.context)
        self._event = _event_class(self.context, self.properties)
        self._decode: Callable[[bytes], DecodedEvent] = msgspec.json.Decoder(self._event).decode

    def read(self, values: Sequence[bytes | None]) -> tuple[list[DecodedEvent], dict[int, Refusal]]:
        """The events, in order, and by index why other values hold none. Best AT_ONCE values or fewer.

        Events too far ahead of their broker's clock are not refused here.
        """
        raw = cast("Sequence[bytes]", values) if all(values) else [value or b"" for value in values]
        found, odd = self._decode_all(raw)
        if not odd:
            return found, {}
        events: list[DecodedEvent] = []
        refused: dict[int, Refusal] = {}
        for i, event in enumerate(found):
            judged = self._judge(raw[i]) if i in odd else event
            if isinstance(judged, tuple):
                refused[i] = judged
            else:
                events.append(judged)
        return events, refused

    def _decode_all(self, values: Sequence[bytes]) -> tuple[list[DecodedEvent], set[int]]:
        """An event for each value, and which of them must be judged instead."""
        events: list[DecodedEvent] = []
        odd = _odd(values)
        rest = iter(values)
        while True:
            try:
                events.extend(map(self._decode, rest))
                break
            except (msgspec.MsgspecError, ValueError, RecursionError):
                odd.add(len(events))  # what came before has been added, and the rest begins behind it
                events.append(_NONE)
        if any("\x00" in organisation for organisation in {event.organisation for event in events}):
            odd.update(i for i, event in enumerate(events) if "\x00" in event.organisation)
        return events, odd

    def _judge(self, value: bytes) -> DecodedEvent | Refusal:
        """Refuses or takes a record by its bytes alone. What cannot be read of a tree is INVALID."""
        if not value:
            return Unreadable.EMPTY, "the record has no value"
        marked = False
        try:
            value.decode()
            try:
                event = _RAW_EVENTS.decode(value)
            except msgspec.DecodeError:
                without = _ESCAPE.sub(lambda escape: _MARKS[1] if escape[1] else escape[0], value)
                if without == value:
                    raise
                event, value, marked = _RAW_EVENTS.decode(without), without, True
        except msgspec.ValidationError as error:
            return Unreadable.SCHEMA, str(error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Unreadable.MALFORMED, str(error)
        except RecursionError:
            return Unreadable.DEPTH, "nested too deeply to be read"
        if _is_deep(value):
            return Unreadable.DEPTH, f"nested deeper than {MAX_DEPTH}"
        if marked and any(text is not None and _MARK in text for text in _TEXTS(event)):
            return Unreadable.MALFORMED, "an id holds half of a surrogate pair"
        for name in ("context", "properties"):
            if not bytes(getattr(event, name)).startswith(b"{"):
                return Unreadable.SCHEMA, f"Expected `object` - at `$.{name}`"
        if "\x00" in event.organisation:
            return Unreadable.NUL, "the organisation holds U+0000"
        return self._event(
            **{name: getattr(event, name) for name in _Fields.__struct_fields__},
            context=self.context.made_of(_values(event.context, marked)),
            properties=self.properties.made_of(_values(event.properties, marked)),
        )


@lru_cache(maxsize=8)
def reader_of(projection: Projection) -> EventReader:
    """Making a reader takes a millisecond, and metrics change rarely."""
    return EventReader(projection)


def decode_event(raw: bytes | None, broker_time: int) -> DecodedEvent | Refusal:
    """The event with all that it holds, or why there is none. `broker_time` is µs since the epoch."""
    events, refused = reader_of(EVERYTHING).read([raw])
    if refused:
        return refused[0]
    return AHEAD if events[0].time > broker_time + MAX_AHEAD else events[0]


def _event_class(context: Tree, properties: Tree) -> type[DecodedEvent]:
    fields = [
        (name, tree.type, msgspec.field(default_factory=tree.type))
        for name, tree in (("context", context), ("properties", properties))
    ]
    return msgspec.defstruct("ProjectedEvent", fields, bases=(DecodedEvent,), gc=False)  # type: ignore[return-value]


def _odd(values: Sequence[bytes]) -> set[int]:
    """Where decoding in one go may not see everything: what is no UTF-8, and what may be too deep."""
    everything = b"\n".join(values)
    odd: set[int] = set()
    if not everything.isascii() and not _is_utf8(everything):
        odd.update(i for i, value in enumerate(values) if not _is_utf8(value))
    if _is_dense(everything, values):
        odd.update(i for i, value in enumerate(values) if value.count(b"[") + value.count(b"{") > MAX_DEPTH)
    return odd


def _is_dense(everything: bytes, values: Sequence[bytes]) -> bool:
    """Whether any of the values, joined in `everything`, may open more than MAX_DEPTH brackets: counts them 64 bytes
    at a time.
    """
    text = np.frombuffer(everything, dtype=np.uint8)
    opening = text == _BRACE
    if b"[" in everything:
        opening |= text == _BRACKET
    bits = np.packbits(opening)
    words = np.zeros(-(-len(bits) // 8), dtype=np.uint64)
    words.view(np.uint8)[: len(bits)] = bits
    counts = np.bitwise_count(words)
    touched = max(map(len, values), default=0) // 64 + 2  # a value may begin and end within a word
    if touched * int(counts.max(initial=0)) <= MAX_DEPTH:
        return False
    touched = min(touched, len(words))
    before = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return bool((before[touched:] - before[: len(before) - touched] > MAX_DEPTH).any())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_deep(value: bytes) -> bool:
    """Whether anything is nested deeper than MAX_DEPTH below the event: takes away the innermost again and again."""
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING_OR_OTHER.sub(b"", value)
    for _ in range(MAX_DEPTH + 1):
        brackets = _INNERMOST.sub(b"", brackets)
    return bool(brackets)


def _values(tree: msgspec.Raw, marked: bool) -> dict[str, Any]:
    return {name: _value(bytes(raw), marked) for name, raw in _RAW_VALUES.decode(tree).items()}


def _value(raw: bytes, marked: bool) -> Any:
    if marked and any(mark in raw for mark in _MARKS):
        return INVALID
    try:
        return _VALUES.decode(raw)
    except msgspec.MsgspecError:  # 1e400, or thousands of digits
        return INVALID

"""Bodies that carry several messages, and single messages, each read without trusting the others."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from services.ingest.domain.batch_body import MAX_BATCH_EVENTS, BatchFault, NoBatch, taken_apart
from services.ingest.domain.normalise import MAX_ID_CHARACTERS, Reason, Rejected
from shared import strict_json
from shared.strict_json import InvalidJsonError, Violation


class Frame(msgspec.Struct):
    """What stands around messages; a product adds what its requests say of them all."""

    batch: list[msgspec.Raw]


F = TypeVar("F", bound=Frame)
T = TypeVar("T")

_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def opened(body: bytes, frames: msgspec.json.Decoder[F]) -> tuple[F, list[bytes]] | NoBatch:
    """What stands around the list `batch`, strictly read, and the bytes of its elements, in order.

    The elements may still be no JSON: the body was none then.
    """
    parts: tuple[bytes, list[bytes]] | NoBatch | None
    try:
        frame = frames.decode(body)
    except msgspec.ValidationError as error:
        return _fault_of(body) or NoBatch(BatchFault.SCHEMA, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parts = taken_apart(body, "batch")
        if parts is None:
            return _fault_of(body) or NoBatch(BatchFault.MALFORMED, "the list batch does not end")
        if isinstance(parts, NoBatch):
            return parts
        try:
            frame = strict_json.decode(parts[0], frames)
        except InvalidJsonError as error:
            return _no_batch(error)
        return NoBatch(BatchFault.SCHEMA, "batch stands twice") if frame.batch else (frame, parts[1])
    elements = [bytes(raw) for raw in frame.batch]
    try:
        strict_json.check([value for name, value in msgspec.structs.asdict(frame).items() if name != "batch"])
    except InvalidJsonError as error:
        return _no_batch(error)
    return (frame, elements) if len(elements) <= MAX_BATCH_EVENTS else _TOO_LONG


def opened_list(body: bytes) -> list[bytes] | NoBatch:
    """The bytes of the elements of a document that is a list."""
    try:
        elements = [bytes(raw) for raw in _LIST.decode(body)]
    except msgspec.ValidationError as error:
        return _fault_of(body) or NoBatch(BatchFault.SCHEMA, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parts = taken_apart(body, None)
        if parts is None:
            return _fault_of(body) or NoBatch(BatchFault.MALFORMED, "the list does not end")
        if isinstance(parts, NoBatch):
            return parts
        elements = parts[1]
        fault = _fault_of(parts[0])
        if fault is not None:
            return fault
    return elements if len(elements) <= MAX_BATCH_EVENTS else _TOO_LONG


_TOO_LONG = NoBatch(BatchFault.TOO_LONG, f"a batch may hold at most {MAX_BATCH_EVENTS} events")


def read(raw: bytes, decoder: msgspec.json.Decoder[T], *, id_field: str, limit: int) -> T | Rejected:
    """One message of at most `limit` bytes; `id_field` is where its id stands."""
    if len(raw) > limit:
        detail = f"a message may have at most {limit} bytes; this has {len(raw)}"
        return Rejected(Reason.TOO_LARGE, detail, readable_id(raw, id_field))
    try:
        return strict_json.decode(raw, decoder)
    except InvalidJsonError as error:
        return Rejected(Reason(error.violation.value), str(error), readable_id(raw, id_field))


def fields_of(raw: bytes) -> dict[str, Any]:
    """An object's fields, however little of it would be accepted; none of what is no object. Never raises."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def readable_id(raw: bytes, field: str) -> str | None:
    """The id of a message that is refused, so that its sender can tell which one it was."""
    return shown_id(fields_of(raw).get(field))


def shown_id(value: Any) -> str | None:
    """Text of a length that an id may have and that an answer can hold."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARACTERS:
        return None
    try:
        strict_json.check(value)
    except InvalidJsonError:
        return None
    return value


def _fault_of(document: bytes) -> NoBatch | None:
    try:
        strict_json.loads(document)
    except InvalidJsonError as error:
        return _no_batch(error)
    return None


def _no_batch(error: InvalidJsonError) -> NoBatch:
    fault = BatchFault.MALFORMED if error.violation is Violation.MALFORMED else BatchFault.SCHEMA
    return NoBatch(fault, str(error))

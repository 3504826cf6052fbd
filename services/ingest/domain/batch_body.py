"""Taking a batch apart without letting one bad event spoil the others.

Parsers refuse a whole document for one lone surrogate or one hundred thousand brackets. So the list of events is cut
into the bytes of its elements by structure alone, and each element is judged by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import msgspec

from shared import strict_json
from shared.strict_json import InvalidJsonError, Violation

MAX_BATCH_EVENTS = 10_000


class BatchFault(Enum):
    """Why a body is no batch of events; the value is the machine-readable reason."""

    MALFORMED = Violation.MALFORMED.value
    SCHEMA = Violation.SCHEMA.value
    EMPTY = "batch_empty"
    TOO_LONG = "batch_too_long"


@dataclass(frozen=True, slots=True)
class NoBatch:
    fault: BatchFault
    detail: str


class _Batch(msgspec.Struct):
    events: list[msgspec.Raw]


_BATCH = msgspec.json.Decoder(_Batch)


def events_of(body: bytes) -> list[bytes] | NoBatch:
    """The bytes of each element of the list `events`, in order.

    What is returned may still hold elements that are no JSON: the body was none then.
    """
    try:
        elements = [bytes(raw) for raw in _BATCH.decode(body).events]
    except msgspec.ValidationError as error:
        return _fault_of(body) or NoBatch(BatchFault.SCHEMA, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _cut(body)
        if isinstance(found, NoBatch):
            return found
        elements = found
    if not elements:
        return NoBatch(BatchFault.EMPTY, "events is empty")
    return elements if len(elements) <= MAX_BATCH_EVENTS else _TOO_LONG


_TOO_LONG = NoBatch(BatchFault.TOO_LONG, f"a batch may hold at most {MAX_BATCH_EVENTS} events")


# Possessive, and an unclosed string reaches to the end: no input makes these backtrack.
_STRING = rb'"(?:[^"\\]++|\\.)*+"?'
_TOKEN = re.compile(_STRING + rb"|[\[{]+|[\]}]+|,", re.DOTALL)
_TOKEN_WITHIN = re.compile(_STRING + rb"|[\[{]+|[\]}]+", re.DOTALL)
_ARRAY = re.compile(rb"[ \t\r\n]*\[")


def taken_apart(body: bytes, name: str | None) -> tuple[bytes, list[bytes]] | NoBatch | None:
    """The document without the elements of its list `name` (None: it is itself the list), and their bytes in order.

    Cut by structure alone: neither need be JSON. None if there is no such list at the top, or it does not end.
    """
    start = _start_of_list(body, name)
    cut = None if start is None else _elements(body, start)
    if start is None or cut is None or isinstance(cut, NoBatch):
        return cut if isinstance(cut, NoBatch) else None
    elements, end = cut
    return body[:start] + b"]" + body[end:], elements


def _cut(body: bytes) -> list[bytes] | NoBatch:
    parts = taken_apart(body, "events")
    if parts is None:
        return _fault_of(body) or NoBatch(BatchFault.MALFORMED, "the list of events does not end")
    if isinstance(parts, NoBatch):
        return parts
    frame, elements = parts
    return _fault_of(frame) or elements


def _fault_of(frame: bytes) -> NoBatch | None:
    """What is wrong with a body from which the events have been taken out."""
    try:
        left = strict_json.decode(frame, _BATCH).events
    except InvalidJsonError as error:
        fault = BatchFault.MALFORMED if error.violation is Violation.MALFORMED else BatchFault.SCHEMA
        return NoBatch(fault, str(error))
    return NoBatch(BatchFault.SCHEMA, "events stands twice") if left else None


def _start_of_list(body: bytes, name: str | None) -> int | None:
    """Where the list's first element may begin: behind `"name": [` at the top of the document."""
    if name is None:
        bracket = _ARRAY.match(body)
        return bracket.end() if bracket else None
    opening = re.compile(rb'"%s"[ \t\r\n]*:[ \t\r\n]*\[' % re.escape(name.encode()))
    depth = 0
    position = 0
    while token := _TOKEN.search(body, position):
        text = token.group()
        if text[:1] in b"[{":
            depth += len(text)
        elif text[:1] in b"]}":
            depth -= len(text)
        elif depth == 1 and (found := opening.match(body, token.start())):
            return found.end()
        position = token.end()
    return None


def _elements(body: bytes, start: int) -> tuple[list[bytes], int] | NoBatch | None:
    """The elements and where the list's closing bracket ends; None if it does not."""
    elements: list[bytes] = []
    depth = 0
    begin = position = start
    while token := (_TOKEN_WITHIN if depth else _TOKEN).search(body, position):
        position = token.end()
        first = body[token.start() : token.start() + 1]
        if first in b"[{":
            depth += position - token.start()
        elif first in b"]}":
            # Closing brackets come in runs that may reach beyond the list's own.
            if position - token.start() > depth:
                close = token.start() + depth
                last = body[begin:close].strip()
                if last or elements:
                    elements.append(last)
                return elements, close + 1
            depth -= position - token.start()
        elif first == b"," and depth == 0:
            elements.append(body[begin : token.start()].strip())
            begin = position
            if len(elements) >= MAX_BATCH_EVENTS:
                return _TOO_LONG
    return None

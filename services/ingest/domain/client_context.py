"""What a client tells about itself in request headers, under the names an event's context uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MAX_HEADER_CHARACTERS = 512
"""A longer header is cut: it describes the client and must never make its events invalid."""

CONTEXT_HEADERS: Mapping[bytes, str] = {
    b"x-app-version": "appVersion",
    b"x-os-version": "osVersion",
    b"x-network-type": "networkType",
    b"x-device-model": "deviceModel",
    b"user-agent": "userAgent",
}


def context_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The context that lower-case `headers` state; empty ones count as absent, of repeated ones the first holds."""
    context: dict[str, str] = {}
    for name, value in headers:
        field = CONTEXT_HEADERS.get(name)
        if field is not None and field not in context:
            text = _text(value)
            if text:
                context[field] = text
    return context


def merged(from_headers: Mapping[str, str], from_body: Mapping[str, Any] | None) -> dict[str, Any]:
    """Field by field the body's context wins: it was written for this event, headers for the connection."""
    return {**from_headers, **from_body} if from_body else dict(from_headers)


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.replace("\x00", "").strip()[:MAX_HEADER_CHARACTERS]

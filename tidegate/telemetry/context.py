"""What a client tells about itself in the headers of its request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_FIELDS = {
    "x-app-version": "appVersion",
    "x-os-version": "osVersion",
    "x-network-type": "networkType",
    "x-device-model": "deviceModel",
    "user-agent": "userAgent",
}
_LONGEST = 512

Headers = Mapping[str, str] | Iterable[tuple[str, str]] | Iterable[tuple[bytes, bytes]]
"""As HTTP libraries have them, ASGI included; names in any case."""


@dataclass(frozen=True, slots=True)
class ClientContext:
    """The fields of an event's `context`, by their names there."""

    fields: Mapping[str, str]

    @classmethod
    def from_headers(cls, headers: Headers) -> ClientContext:
        """X-App-Version, X-OS-Version, X-Network-Type, X-Device-Model and User-Agent; what is absent is left out."""
        found: dict[str, str] = {}
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        for name, value in pairs:
            field = _FIELDS.get(_text(name).lower())
            if field is not None and field not in found and (text := _text(value).strip()[:_LONGEST]):
                found[field] = text
        return cls(found)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value

"""Server-sent events out of a stream of bytes, as the HTML standard says."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT = 1024 * 1024
"""Characters of an event that does not end."""


class EventTooLargeError(Exception):
    """An event has grown beyond `MAX_EVENT`."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """`id` only if this very event states one: the stream can go on after it."""

    data: str
    id: str | None


class EventStream:
    """Feed it what arrives. `retry`: seconds to wait before connecting again, if the stream says so."""

    def __init__(self) -> None:
        self.retry: float | None = None
        self._rest = b""
        self._after_cr = False
        self._begun = False
        self._data: list[str] = []
        self._size = 0
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that end within the chunk. Raises EventTooLargeError."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        lines = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT:
            raise EventTooLargeError
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, raw: bytes) -> ServerSentEvent | None:
        line = raw.decode("utf-8", "replace")
        if not self._begun:
            self._begun = True
            line = line.removeprefix("\ufeff")
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > MAX_EVENT:
                raise EventTooLargeError
        elif name == "id" and "\x00" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value[:9]) / 1000
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, event_id = self._data, self._id
        self._data, self._size, self._id = [], 0, None
        return ServerSentEvent("\n".join(data), event_id) if data else None

"""Batches to the platform over HTTP, on one connection that is kept."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

PATH = "/api/v1/streaming-analytics/events/batch"
_KEY = re.compile(r"[!-~]+")
_MOST = 4 * 1024 * 1024
"""Bytes of an answer that are read."""


_LOST = (OSError, http.client.HTTPException, UnicodeError)
"""How a request fails; the last is a host that no name server can be asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`retry_after` is in seconds."""

    status: int
    body: bytes
    retry_after: float | None = None


class LostError(Exception):
    """No answer came: the events may have been stored or not."""


class Transport(Protocol):
    def post(self, body: bytes) -> Answer:
        """Raises LostError."""

    def close(self) -> None: ...


class HttpTransport:
    """`url` is the gateway's, `key` an ingest key, `timeout` in seconds. Raises ValueError for what is none."""

    def __init__(self, url: str, key: str, *, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the platform's URL looks like https://tidegate.example")
        key = key.strip()  # as it comes out of a file
        if not _KEY.fullmatch(key):  # http.client would refuse it too, and quote it in a log
            raise ValueError("the key is empty or holds what no header can carry")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._path = parts.path.rstrip("/") + PATH
        # No User-Agent: the platform would take it for that of the clients whom events are about.
        self._headers = {"X-API-Key": key, "Content-Type": "application/json"}

    def post(self, body: bytes) -> Answer:
        reused = self._connection.sock is not None
        try:
            return self._ask(body)
        except _LOST as error:
            self._connection.close()
            if not reused:
                raise LostError(repr(error)) from None
        # A connection that was idle may have been closed by the other side: a new one is worth a try at once.
        try:
            return self._ask(body)
        except _LOST as error:
            self._connection.close()
            raise LostError(repr(error)) from None

    def close(self) -> None:
        self._connection.close()

    def _ask(self, body: bytes) -> Answer:
        self._connection.request("POST", self._path, body, self._headers)
        answer = self._connection.getresponse()
        text = answer.read(_MOST)
        if answer.read(1):
            self._connection.close()
        return Answer(answer.status, text, _seconds(answer.headers.get("Retry-After")))


def _seconds(text: str | None) -> float | None:
    """A date is not understood, as if there were none."""
    return float(text) if text is not None and text.isdecimal() and len(text) < 10 else None

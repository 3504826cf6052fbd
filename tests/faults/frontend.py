"""What a Postgres client says, as far as it takes to find a COMMIT in the stream of its bytes."""

from __future__ import annotations

from dataclasses import dataclass

_NEGOTIATIONS = {80_877_103, 80_877_104}
"""SSLRequest and GSSENCRequest: the start-up message follows, without a type byte either."""
_KEPT = 64
"""Bytes of a body that are looked at: a COMMIT is short, and a statement's name ours to know."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where in the bytes just fed a COMMIT begins (0 if it began in earlier ones) and ends."""

    begin: int
    end: int


class FrontendParser:
    """Takes a connection's bytes from its first one on, cut anywhere."""

    def __init__(self) -> None:
        self._starting = True
        self._head = bytearray()
        self._body = bytearray()
        self._left = 0
        self._commit_parsed = False

    def feed(self, data: bytes) -> Span | None:
        """The first COMMIT that ends in `data`; that of the extended protocol is its Execute message."""
        found, at, begin = None, 0, 0
        while at < len(data):
            wanted = 8 if self._starting else 5
            if len(self._head) < wanted:
                if not self._head:
                    begin = at
                taken = data[at : at + wanted - len(self._head)]
                self._head += taken
                at += len(taken)
                if len(self._head) < wanted:
                    break
                self._left = self._length() - (8 if self._starting else 4)
                self._body.clear()
            taken = data[at : at + self._left]
            self._body += taken[: _KEPT - len(self._body)]
            self._left -= len(taken)
            at += len(taken)
            if self._left == 0:
                if self._is_commit() and found is None:
                    found = Span(begin, at)
                self._head.clear()
        return found

    def _length(self) -> int:
        return int.from_bytes(self._head[:4] if self._starting else self._head[1:5], "big")

    def _is_commit(self) -> bool:
        if self._starting:
            self._starting = int.from_bytes(self._head[4:8], "big") in _NEGOTIATIONS
            return False
        kind = self._head[:1]
        if kind == b"Q":
            return _says_commit(self._body)
        if kind == b"P":
            self._commit_parsed = _says_commit(self._body.partition(b"\0")[2])
        return kind == b"E" and self._commit_parsed


def _says_commit(text: bytes | bytearray) -> bool:
    return text.partition(b"\0")[0].strip(b"; \n").upper() == b"COMMIT"

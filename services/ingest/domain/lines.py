"""Cutting newline-delimited JSON into lines as it comes in, without holding more than one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r"


class Line(NamedTuple):
    """`number` is its place in the file; `raw` its bytes without what ends it; `length` how many there were."""

    number: int
    raw: bytes
    length: int

    @property
    def is_cut(self) -> bool:
        return self.length > len(self.raw)


class Lines:
    """`feed` what comes, then `end`. Blank lines are counted and left out; of a long one `keep` bytes are kept."""

    def __init__(self, *, keep: int, first: int = 1) -> None:
        self._keep = keep
        self._next = first
        self._begun = bytearray()
        self._length = 0
        self._at_start = True

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that `data` completes, lazily: take all of them before the next call."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            if self._length:
                self._extend(part)
                part, length = bytes(self._begun), self._length
                self._begun.clear()
                self._length = 0
            else:
                length = len(part)
            if (line := self._line(part, length)) is not None:
                yield line
        self._extend(rest)

    def end(self) -> Iterator[Line]:
        """The last line, if nothing ends it."""
        if self._length and (line := self._line(bytes(self._begun), self._length)) is not None:
            yield line

    def _extend(self, part: bytes) -> None:
        self._begun += part[: max(0, self._keep - len(self._begun))]
        self._length += len(part)

    def _line(self, raw: bytes, length: int) -> Line | None:
        number = self._next
        self._next += 1
        if self._at_start:
            self._at_start = False
            if raw.startswith(_BOM):
                raw, length = raw[len(_BOM) :], length - len(_BOM)
        if length > self._keep:
            return Line(number, raw[: self._keep], length)
        raw = raw.strip(_BLANK)
        return Line(number, raw, len(raw)) if raw else None

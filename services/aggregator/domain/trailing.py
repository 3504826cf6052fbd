"""Windows of any length: which rolled rows and which minutes add up to a span of time.

begin                                                        end
  ├ minutes ┤ 5m ┤  1h  ┤      1d      ┤  1h  ┤ 5m ┤ minutes ┤
  edges are always minutes; between them, what a shard has not rolled yet is minutes too
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.clock import DAY, HOUR, MINUTE, SECOND

LONGEST = 3 * DAY
"""Twice this, for the window before, is shorter than minutes live."""
PREFIX = "trailing:"

_LENGTH = re.compile(r"trailing:([1-9][0-9]{0,3})([mhd])")
_UNITS = {"m": MINUTE, "h": HOUR, "d": DAY}
_ROLLED = (DAY, HOUR, 5 * MINUTE)


def trailing_length(text: str) -> int | None:
    """`trailing:2h` → µs; None for what is no length from a minute to three days."""
    match = _LENGTH.fullmatch(text)
    length = int(match[1]) * _UNITS[match[2]] if match else 0
    return length if MINUTE <= length <= LONGEST else None


@dataclass(frozen=True, slots=True)
class Span:
    """[begin, end) in µs, of rows of this width in seconds."""

    width: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Cover:
    """`rolls` cover `rolled` (None if the span is too short for any), `edges` are the minutes around it."""

    rolls: tuple[Span, ...]
    rolled: tuple[int, int] | None
    edges: tuple[tuple[int, int], ...]


def cover(begin: int, end: int) -> Cover:
    """Of whole minutes, begin < end: each minute once, by the widest rows that lie within."""
    spans: list[Span] = []
    edges: list[tuple[int, int]] = []
    at = begin
    while at < end:
        width = next((w for w in _ROLLED if at % w == 0 and at + w <= end), MINUTE)
        begins, at = at, at + width
        if width == MINUTE:
            joins = edges and edges[-1][1] == begins
            edges[-1:] = [(edges[-1][0], at)] if joins else [*edges[-1:], (begins, at)]
        elif spans and spans[-1].width == width // SECOND and spans[-1].end == begins:
            spans[-1] = Span(width // SECOND, spans[-1].begin, at)
        else:
            spans.append(Span(width // SECOND, begins, at))
    rolled = (spans[0].begin, spans[-1].end) if spans else None
    return Cover(tuple(spans), rolled, tuple(edges))

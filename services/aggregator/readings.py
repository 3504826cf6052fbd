"""Windows as the API shows them: which are meant, what is read from each, one item an aggregation and part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.aggregator.domain.event import EARLIEST
from services.aggregator.domain.kinds.breakdown import Breakdown
from services.aggregator.domain.kinds.kind import Cell, Part, Reading, percentile_of
from services.aggregator.domain.kinds.measured import Value
from services.aggregator.domain.kinds.streak import Streak
from services.aggregator.domain.metrics import Definition
from services.aggregator.domain.trailing import LONGEST, PREFIX, trailing_length
from services.aggregator.queries import TOTAL, WIDTHS, Queries, Window
from shared.clock import MINUTE, SECOND, from_datetime, to_datetime
from shared.http import Problem

_EARLIEST = EARLIEST // SECOND
_AHEAD = timedelta(days=2)
"""Clocks may be early."""
_FURTHER = 8
"""Where windows are few, each look goes so many times further back than the one before."""
_Group = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Which windows are meant: those of `width` that start in [begin, until), or the trailing one that is that span.

    `length` is how long each is; None of all time.
    """

    width: str
    begin: datetime
    until: datetime
    limit: int

    @property
    def trailing(self) -> bool:
        return self.width.startswith(PREFIX)

    @property
    def length(self) -> timedelta | None:
        if self.trailing:
            return self.until - self.begin
        return None if self.width == TOTAL else timedelta(seconds=WIDTHS[self.width])


def span_of(now: int, width: str, start: datetime | None, end: datetime | None, limit: int) -> Span:
    """What is asked for at `now` (µs). Raises Problem.

    Windows are those given, or the last `limit` and a day ahead (early clocks). A trailing one ends with the present
    minute, or with the last before `end`, and begins with the minute in which its length before that lies.
    """
    if width not in (TOTAL, *WIDTHS):
        return _trailing(now, width, start, end, limit)
    until = _utc(end) if end else to_datetime(now) + _AHEAD
    if start is not None:
        return Span(width, max(_utc(start), to_datetime(EARLIEST)), until, limit)
    if width == TOTAL:
        return Span(width, to_datetime(EARLIEST), until, limit)
    seconds = WIDTHS[width]
    newest = (min(now, from_datetime(until) - 1)) // SECOND
    begin = to_datetime(max(_EARLIEST, newest - newest % seconds - seconds * (limit - 1)) * SECOND)
    return Span(width, begin, until, limit)


def _trailing(now: int, width: str, start: datetime | None, end: datetime | None, limit: int) -> Span:
    length = trailing_length(width)
    if length is None:
        known = ", ".join((*WIDTHS, TOTAL))
        longest = LONGEST // (24 * 60 * MINUTE)
        raise Problem(
            422, "window_unknown", f"time_window is {known}, or {PREFIX}10m, {PREFIX}2h … up to {PREFIX}{longest}d"
        )
    if start is not None:
        raise Problem(422, "window_unknown", "a trailing window has no `from`: its length says where it begins")
    last = min(now, from_datetime(_utc(end)) - 1) if end else now
    begin = max(_EARLIEST * SECOND, last - length)
    return Span(width, to_datetime(begin - begin % MINUTE), to_datetime(last - last % MINUTE + MINUTE), limit)


def _utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise Problem(422, "time_out_of_range", "`from` and `to` must lie between the years 1 and 9999") from None


async def read_items(
    queries: Queries, definition: Definition, span: Span, aggregation: str | None
) -> list[dict[str, Any]]:
    """The metric's windows, newest first. Raises Problem for an aggregation that it has not."""
    wanted, kind = wanted_of(definition, aggregation), definition.kind
    if isinstance(kind, Streak):
        return [
            item
            for group, run in await queries.streaks(definition, kind)
            for item in _items(definition, TOTAL, None, None, group, kind.read(run, wanted))
        ]
    compares = isinstance(kind, Breakdown) and "trend" in wanted and span.length is not None
    windows, begin = await _read(queries, definition, span)
    earlier = await _earlier(queries, definition, replace(span, begin=begin), windows) if compares else {}
    items: list[dict[str, Any]] = []
    starts: set[datetime | None] = set()
    for window in windows:
        starts.add(window.start)
        if len(starts) > span.limit:
            break
        if isinstance(kind, Breakdown):
            before = earlier.get(_place_before(window, span), {}) if compares else None
            readings = kind.read(window.cells, wanted, before)
        else:
            readings = kind.read(window.cells, wanted)
        items.extend(_items(definition, span.width, window.start, span.length, window.group, readings))
    return items


async def _read(queries: Queries, definition: Definition, span: Span) -> tuple[list[Window], datetime]:
    """Windows, newest first, and from when on they are all there: little more is read than the limit shows."""
    if span.trailing:
        return await queries.trailing(definition, span.begin, span.until), span.begin
    if span.length is None:
        return await queries.windows(definition, span.width, span.begin, span.until), span.begin
    windows: list[Window] = []
    begin, stretch = span.until, span.length * span.limit + _AHEAD
    while begin > span.begin and len({window.start for window in windows}) < span.limit:
        end, begin = begin, span.begin if begin - span.begin <= stretch else begin - stretch
        windows += await queries.windows(definition, span.width, begin, end)
        stretch *= _FURTHER
    return windows, max(begin, span.begin)


async def _earlier(
    queries: Queries, definition: Definition, span: Span, windows: list[Window]
) -> Mapping[tuple[datetime | None, _Group], Mapping[Part, Cell]]:
    """What preceding windows hold: of most of them it is there already."""
    assert span.length is not None
    before, _ = await _read(queries, definition, replace(span, begin=span.begin - span.length, until=span.begin))
    return {(w.start, w.group): w.cells for w in (*windows, *before)}


def _place_before(window: Window, span: Span) -> tuple[datetime | None, _Group]:
    assert window.start is not None
    assert span.length is not None
    return window.start - span.length, window.group


def _items(
    definition: Definition,
    width: str,
    start: datetime | None,
    length: timedelta | None,
    group: _Group,
    readings: list[Reading],
) -> list[dict[str, Any]]:
    """`part`, `error` and `trend` stand where there is one."""
    place = {
        "metric_name": definition.key,
        "time_window": width,
        "window_start": start,
        "window_end": None if start is None or length is None else start + length,
    }
    named = {str(path): value for path, value in zip(definition.group_by, group, strict=True)}
    return [
        {
            **place,
            "aggregation_type": reading.aggregation,
            "metric_value": reading.value,
            "count": reading.count,
            "group": named,
            **({} if reading.part is None else {"part": reading.part}),
            **({} if reading.error is None else {"error": reading.error}),
            **({} if reading.trend is None else {"trend": reading.trend}),
        }
        for reading in readings
    ]


def with_closed(item: dict[str, Any], through: datetime) -> dict[str, Any]:
    """What is of all time is never closed."""
    return {**item, "closed": item["window_end"] is not None and item["window_end"] <= through}


def has_windows(definition: Definition, width: str | None) -> bool:
    """A streak has the one of all time."""
    return not isinstance(definition.kind, Streak) or width in (None, TOTAL)


def wanted_of(definition: Definition, aggregation: str | None) -> tuple[str, ...]:
    """The aggregation, or what a reading holds unless one is asked for. Raises Problem if the metric has it not."""
    kind = definition.kind
    if aggregation is None:
        return kind.aggregations
    if not kind.can_read(aggregation):
        if percentile_of(aggregation) is not None and isinstance(kind, Value):
            hint = "percentiles need a histogram: add one to the metric's aggregations"
        elif aggregation.startswith("share") and isinstance(kind, Value):
            hint = "shares are counted from when they stand in the metric's aggregations: add it there"
        else:
            hint = f"it has {', '.join(kind.readable)}"
        raise Problem(422, "aggregation_unknown", f"{definition.key} has no aggregation {aggregation!r}; {hint}")
    return (aggregation,)

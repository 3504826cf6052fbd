"""Funnels of plain stages, many units at once: what is known of them as columns, what a batch tells, what follows.

    unit  ──►  a row of numbers: limits of slots │ writer │ earliest start │ up to DEPTH moments of each later stage

It says the same as `tracks.known` of united facts does unit by unit, which is what units with more moments than a row
holds are left to. A row is what one transaction, the `writer`, left in the database: who finds the stored row still
written by the same knows it without reading it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from services.aggregator.domain.deltas import Told
from services.aggregator.domain.facts import EVER, Entry, Facts
from services.aggregator.domain.kinds.funnel import FunnelTrack
from services.aggregator.domain.known import Found, Remembered
from services.aggregator.domain.sums import squares_of, sums_of
from services.aggregator.domain.tracks import PER_MICROSECOND, Track, prefixed
from shared.clock import MINUTE

Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

DEPTH = 8
"""Moments of one stage that a row holds."""
_MOST_STAGES = 8
_LONG = 1 << 32
"""Shorter numbers, so times of 1970, have other forms in MessagePack: `facts.encode` writes those."""
UNKNOWN = 0
"""No writer: what is stored has to be read."""


def staged(track: Track) -> FunnelTrack | None:
    """The track, if it is one whose later stages are nothing but times."""
    if not isinstance(track, FunnelTrack) or len(track.slots) > min(len(track.names), _MOST_STAGES):
        return None
    return track


def _width(stages: int) -> int:
    return stages + 2 + (stages - 1) * DEPTH


def remembered(facts: Facts, limits: Sequence[int], writer: int) -> Remembered:
    """What is known of one unit as a row. Without a writer if it holds more than a row does."""
    stages = len(facts)
    row = np.full(_width(stages), EVER, dtype=np.int64)
    row[:stages] = limits
    row[stages] = writer
    if facts[0]:
        row[stages + 1] = facts[0][0][0]
    for slot, entries in enumerate(facts[1:]):
        if len(entries) > DEPTH:
            row[stages] = UNKNOWN
            break
        begin = stages + 2 + slot * DEPTH
        row[begin : begin + len(entries)] = [entry[0] for entry in entries]
    return Remembered(row, facts[0][0] if facts[0] else None)


@dataclass(frozen=True, slots=True, eq=False)
class StagedNews(Mapping[str, Told]):
    """What a batch tells of a funnel's units, which are ascending. Entries are by unit, stage and time, none twice.

    `before` has a row a unit, `origins` its earliest start; `present`: the unit most likely has a stored row.
    """

    track: FunnelTrack
    units: list[str]
    before: Integers
    origins: list[Entry | None]
    present: Mask
    owners: Integers
    slots: Integers
    times: Integers
    starts: Mapping[int, Entry]
    """By a unit's place, the earliest that the batch tells."""

    def __getitem__(self, unit: str) -> Told:
        place = {name: i for i, name in enumerate(self.units)}[unit]
        return self.told([place])[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self.units)

    def __len__(self) -> int:
        return len(self.units)

    @property
    def seen(self) -> Integers:
        """The time of each unit's latest entry."""
        latest: Integers = np.maximum.reduceat(self.times, self._begins[:-1])
        return latest

    def told(self, places: Sequence[int]) -> dict[str, Told]:
        """Of some of the units, one by one."""
        begins = self._begins
        found: dict[str, Told] = {}
        for place in places:
            part = slice(begins[place], begins[place + 1])
            slots: list[list[Entry]] = [[] for _ in self.track.slots]
            times = self.times[part].tolist()
            for slot, time in zip(self.slots[part].tolist(), times, strict=True):
                slots[slot].append((time,))
            slots[0] = [self.starts[place]] if place in self.starts else []
            found[self.units[place]] = Told(tuple(map(tuple, slots)), max(times), bool(self.present[place]))
        return found

    @property
    def _begins(self) -> Integers:
        return np.searchsorted(self.owners, np.arange(len(self.units) + 1))


def staged_news(
    track: FunnelTrack,
    names: Sequence[str],
    parts: Sequence[tuple[Integers, Integers]],
    starts: Mapping[int, Entry],
    known: Found,
) -> StagedNews:
    """`parts` are codes and times of each stage's entries, `starts` the earliest of each code.

    Codes are places in `names`, which are ascending; `known` is what is known of them.
    """
    owners = np.concatenate([codes for codes, _ in parts])
    times = np.concatenate([of_slot for _, of_slot in parts])
    slots = np.repeat(np.arange(len(parts)), [len(codes) for codes, _ in parts])
    ordered = np.flatnonzero(np.bincount(owners))
    place_of = np.zeros(len(names), dtype=np.int64)
    place_of[ordered] = np.arange(len(ordered))
    owners = place_of[owners]
    order = np.lexsort((times, slots, owners))
    owners, slots, times = owners[order], slots[order], times[order]
    fresh = np.ones(len(times), dtype=np.bool_)
    fresh[1:] = (np.diff(owners) != 0) | (np.diff(slots) != 0) | (np.diff(times) != 0)
    stages, at = len(track.slots), known.places[ordered]
    before = np.full((len(ordered), _width(stages)), EVER, dtype=np.int64)
    before[:, stages] = UNKNOWN
    if known.rows.shape[1] == before.shape[1]:
        before[at >= 0] = known.rows[at[at >= 0]]
    origins = np.full(len(ordered), None)
    origins[at >= 0] = known.origins[at[at >= 0]]
    return StagedNews(
        track,
        [names[code] for code in ordered.tolist()],
        before,
        origins.tolist(),
        at >= 0,
        owners[fresh],
        slots[fresh],
        times[fresh],
        {int(place_of[code]): entry for code, entry in starts.items()},
    )


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What is known of the news' units with the news. Times in µs, EVER where there is none; a row a unit.

    `open`: units whose rows do not hold all of it; the rest of their columns says nothing.
    """

    open: Mask
    changed: Mask
    moved: Mask
    """Whether what they give to windows may differ from before."""
    restarted: Mask
    origins: list[Entry | None]
    stood: Integers
    moments: Integers
    limits: Integers
    entries: Integers
    """By unit, stage from the second on, and place."""

    def rows(self, chosen: Integers, writer: int) -> Integers:
        """To be remembered."""
        flat = self.entries[chosen].reshape(len(chosen), self.entries.shape[1] * DEPTH)
        start = self.moments[chosen, :1]
        return np.hstack([self.limits[chosen], np.full((len(chosen), 1), writer), start, flat])


def stand(news: StagedNews) -> Standing:
    track, stages, size = news.track, len(news.track.slots), len(news.units)
    known = news.before[:, stages + 2 :].reshape(size, stages - 1, DEPTH)
    start = news.before[:, stages + 1]
    opened = (news.before[:, stages] == UNKNOWN) & news.present
    every, crowded = _with_news(known, news)
    opened[crowded] = True
    origins = list(news.origins)
    restarted = np.zeros(size, dtype=np.bool_)
    begin = start.copy()
    for place, entry in news.starts.items():
        before = origins[place]
        if before is None or entry < before:
            origins[place], begin[place], restarted[place] = entry, entry[0], True
    stood, moments = _moments(track, start, known), _moments(track, begin, every)
    limits = np.where(moments < EVER, moments, np.minimum(begin + track.window, EVER)[:, None])
    limits[begin == EVER] = EVER
    every[every > limits[:, 1:, None]] = EVER
    opened |= (every[:, :, DEPTH:] < EVER).any(axis=(1, 2))
    entries = every[:, :, :DEPTH]
    opened |= (entries[:, :, 0] < _LONG).any(axis=1)  # the earliest of each stage
    moved = restarted | (stood != moments).any(axis=1)
    changed = moved | (entries != known).any(axis=(1, 2))
    return Standing(opened, changed, moved, restarted, origins, stood, moments, limits, entries)


def _with_news(known: Integers, news: StagedNews) -> tuple[Integers, Integers]:
    """Known entries and told ones of the later stages, ascending and none twice, in as many places as that takes.

    And the units of which so much is told that some of it was left out.
    """
    later = np.flatnonzero(news.slots > 0)
    owners, slots, times = news.owners[later], news.slots[later] - 1, news.times[later]
    key = owners * known.shape[1] + slots
    begins = np.flatnonzero(np.diff(key, prepend=-1))
    sizes = np.diff(begins, append=len(key))
    stage = np.repeat(np.arange(len(begins)), sizes)
    rank = np.arange(len(key)) - begins[stage]
    fits = rank < DEPTH
    told = np.full((len(begins), DEPTH + min(DEPTH, int(sizes.max(initial=0)))), EVER, dtype=np.int64)
    told[:, :DEPTH] = known[owners[begins], slots[begins]]
    told[stage[fits], DEPTH + rank[fits]] = times[fits]
    told.sort(axis=1)
    repeated = (told[:, 1:] == told[:, :-1]) & (told[:, 1:] < EVER)
    if repeated.any():
        told[:, 1:][repeated] = EVER
        told.sort(axis=1)
    most = max(DEPTH, int((told < EVER).sum(axis=1).max(initial=0)))
    every = np.full((*known.shape[:2], most), EVER, dtype=np.int64)
    every[:, :, :DEPTH] = known
    every[owners[begins], slots[begins], : told.shape[1]] = told[:, :most]
    return every, owners[~fits]


def _moments(track: FunnelTrack, start: Integers, entries: Integers) -> Integers:
    """When units came to each stage: its earliest entry from the stage before on, within the window."""
    moments = np.empty((len(start), len(track.slots)), dtype=np.int64)
    moments[:, 0] = start
    last = start + track.window
    by_place = np.ascontiguousarray(entries.transpose(1, 2, 0))
    for stage in range(1, len(track.slots)):
        of_stage = by_place[stage - 1]
        reached = np.where(of_stage >= moments[:, stage - 1], of_stage, EVER).min(axis=0)
        moments[:, stage] = np.where(reached <= last, reached, EVER)
    return moments


Cell = tuple[int, str, int, int, int]
"""Minute (µs), group, and how many units count there with which Σ and Σ²."""


def cells(track: FunnelTrack, moments: Integers, origins: Sequence[Entry | None]) -> Iterator[Cell]:
    """Where the units count, as `FunnelTrack.shares` says."""
    rows = np.flatnonzero(moments[:, 0] < EVER)
    if not len(rows):
        return
    groups: dict[str, int] = {}
    codes = [groups.setdefault(entry[1] if (entry := origins[i]) else "[]", len(groups)) for i in rows.tolist()]
    names = list(groups)
    begin = moments[rows, 0]
    key = begin // MINUTE * len(names) + np.array(codes, dtype=np.int64)
    order = np.argsort(key, kind="stable")
    rows, begin, key = rows[order], begin[order], key[order]
    for stage, name in enumerate(track.names):
        reached = np.flatnonzero(moments[rows, stage] < EVER)
        if not len(reached):
            return
        took = (moments[rows[reached], stage] - begin[reached]) * PER_MICROSECOND
        of_stage = key[reached]
        starts = np.flatnonzero(np.diff(of_stage, prepend=-1))
        sizes = np.diff(starts, append=len(reached))
        columns = (of_stage[starts].tolist(), sizes.tolist(), sums_of(took, starts), squares_of(took, starts))
        for of_cell, n, total, squares in zip(*columns, strict=True):
            minute, code = divmod(of_cell, len(names))
            yield minute * MINUTE, prefixed(name, names[code]), n, total, squares


_ARRAY, _TIME = 0x90, b"\x91\xcf"
"""MessagePack: the lead of a short array, and that of an array of one time from `_LONG` on."""
_ENTRY = len(_TIME) + 8


def encoded(standing: Standing, chosen: Integers) -> list[bytes]:
    """The chosen units' facts, as `facts.decode` reads them."""
    entries = standing.entries[chosen]
    stages, present = entries.shape[1], entries < EVER
    counts = present.sum(axis=2).ravel()
    lengths = 1 + counts * _ENTRY
    leads = np.cumsum(lengths) - lengths
    flat = np.empty(int(lengths.sum()), dtype=np.uint8)
    flat[leads] = _ARRAY + counts
    found = np.empty((int(counts.sum()), _ENTRY), dtype=np.uint8)
    found[:, : len(_TIME)] = np.frombuffer(_TIME, dtype=np.uint8)
    found[:, len(_TIME) :] = entries[present].astype(">i8")[:, None].view(np.uint8)
    # Entries come one after the other in their stage, whose lead is before them.
    lead_of = np.repeat(np.arange(1, len(counts) + 1), counts)
    flat[(np.arange(len(found)) * _ENTRY + lead_of)[:, None] + np.arange(_ENTRY)] = found
    ends = np.cumsum(lengths)[stages - 1 :: stages].tolist()
    raw = flat.tobytes()
    lead = bytes([_ARRAY + stages + 1])
    none = lead + bytes([_ARRAY])
    encode = msgspec.msgpack.Encoder().encode
    facts: list[bytes] = []
    begin = 0
    for place, end in zip(chosen.tolist(), ends, strict=True):
        origin = standing.origins[place]
        facts.append((none if origin is None else lead + encode((origin,))) + raw[begin:end])
        begin = end
    return facts

"""The events: what a shop's web site sends in half an hour, and who is in the experiment on it.

Everything follows from the seed and the start. Amounts are whole cents and durations whole milliseconds, so that the
truth is a matter of integers. Events are drawn as columns and written from templates: a backlog of millions should
not take longer to make than to measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.clock import MINUTE, SECOND
from shared.kafka import partition_of
from shared.messages import Event
from shared.topics import EVENTS

ORGANISATION = "default"
SPAN = 30 * MINUTE
"""Event time from the first to the last drawn event; the order is right but for a few seconds."""
LEAD = MINUTE
"""Exposures are in the minute before."""
DISORDER = 3 * SECOND

EXPOSURE = "experiment_exposure"
EVENT_TYPES = (
    "page_viewed",
    "product_viewed",
    "search",
    "cart_updated",
    "checkout_started",
    "purchase",
    EXPOSURE,
)
_WEIGHTS = (0.40, 0.22, 0.12, 0.11, 0.05, 0.10)
PURCHASE = EVENT_TYPES.index("purchase")
VARIANTS = ("control", "treatment")
NETWORKS = ("wifi", "4g", "5g")
USERS = 50_000
EXPERIMENT = "bench_checkout"

_CHUNK = 10_000
_RECEIVED_AFTER = 40_000
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """Events in the order of the log, one column for each thing that differs, all of one length.

    `times` are in µs, `kinds`, `variants` and `networks` are indices into EVENT_TYPES, VARIANTS and NETWORKS, `cents`
    are 0 where there is no purchase. `numbers` and `ids` make up the events' ids.
    """

    numbers: Ints
    times: Ints
    kinds: Ints
    users: Ints
    cents: Ints
    milliseconds: Ints
    networks: Ints
    ids: Ints

    def __len__(self) -> int:
        return len(self.times)

    @property
    def variants(self) -> Ints:
        return self.users & 1


def draw(events: int, *, seed: int, start: int) -> Iterator[Columns]:
    """`events` events in chunks, whose times lie in [start, start + SPAN), `start` in µs."""
    rng = np.random.default_rng(seed)
    for first in range(0, events, _CHUNK):
        n = min(_CHUNK, events - first)
        numbers = first + np.arange(n, dtype=np.int64)
        times = np.clip(numbers * SPAN // events + rng.integers(-DISORDER, DISORDER, n), 0, SPAN - 1) + start
        kinds = rng.choice(len(_WEIGHTS), n, p=_WEIGHTS).astype(np.int64)
        users = rng.integers(0, USERS, n)
        cents = rng.lognormal(8.0, 0.8, n).astype(np.int64) + 1
        milliseconds = (1 + rng.lognormal(5.5, 1.0, n)).astype(np.int64)
        networks = rng.integers(0, len(NETWORKS), n)
        ids = rng.integers(0, 1 << 62, n)
        yield Columns(
            numbers, times, kinds, users, np.where(kinds == PURCHASE, cents, 0), milliseconds, networks, ids
        )


def exposures(*, seed: int, start: int) -> Iterator[Columns]:
    """Every user sees the experiment once, in the minute before `start`."""
    rng = np.random.default_rng([seed, 1])
    for first in range(0, USERS, _CHUNK):
        n = min(_CHUNK, USERS - first)
        users = first + np.arange(n, dtype=np.int64)
        yield Columns(
            numbers=users,
            times=start - LEAD + users * LEAD // USERS,
            kinds=np.full(n, EVENT_TYPES.index(EXPOSURE)),
            users=users,
            cents=np.zeros(n, np.int64),
            milliseconds=(1 + rng.lognormal(3.0, 0.5, n)).astype(np.int64),
            networks=rng.integers(0, len(NETWORKS), n),
            ids=rng.integers(0, 1 << 62, n),
        )


class Record(NamedTuple):
    """As it goes into the topic."""

    partition: int
    key: bytes
    value: bytes


class Writer:
    """Writes events as ingest publishes them: about 250 bytes of JSON, by the message's own encoder.

    Each combination of type, network and variant is encoded once, with markers for the rest.
    """

    def __init__(self) -> None:
        self._templates = [
            _template(kind, network, variant) for kind in EVENT_TYPES for network in NETWORKS for variant in VARIANTS
        ]
        keys = [f"u-{user:05d}" for user in range(USERS)]
        self._keys = [key.encode() for key in keys]
        self._partitions = [partition_of(key, EVENTS.partitions) for key in keys]

    def records(self, columns: Columns) -> Iterator[Record]:
        """In the order of the log."""
        templates, keys, partitions = self._templates, self._keys, self._partitions
        which = (columns.kinds * len(NETWORKS) + columns.networks) * len(VARIANTS) + columns.variants
        rows = zip(
            which.tolist(),
            columns.numbers.tolist(),
            columns.ids.tolist(),
            columns.times.tolist(),
            (columns.times + _RECEIVED_AFTER).tolist(),
            columns.users.tolist(),
            columns.milliseconds.tolist(),
            (columns.cents / 100).tolist(),
            strict=True,
        )
        for template, number, identity, time, received_at, user, milliseconds, amount in rows:
            value = templates[template] % (number, identity, time, received_at, user, milliseconds, amount)
            yield Record(partitions[user], keys[user], value)


_MARKS: tuple[tuple[Any, bytes], ...] = (
    ("event-id", b"%08x%016x"),
    (1_111_111, b"%d"),
    (2_222_222, b"%d"),
    ("user-id", b"u-%05d"),
    (3_333_333, b"%d"),
    (4_444_444.5, b"%a"),
)
"""What stands for a value in the encoded sample → how the value is written, in the order of the message's fields."""
_NOTHING = b"%.0a"
"""Takes a value and writes none."""


def _template(kind: str, network: str, variant: str) -> bytes:
    event_id, time, received_at, user, milliseconds, amount = (mark for mark, _ in _MARKS)
    properties: dict[str, Any] = {"variant": variant, "durationMs": milliseconds}
    if kind == EXPOSURE:
        properties["experiment"] = EXPERIMENT
    if kind == EVENT_TYPES[PURCHASE]:
        properties["amount"] = amount
    sample = Event(
        organisation=ORGANISATION,
        event_id=event_id,
        event_type=kind,
        time=time,
        received_at=received_at,
        user_id=user,
        context={"networkType": network},
        properties=properties,
    )
    text = EVENTS.encode(sample)
    for mark, written in _MARKS:
        text = text.replace(str(mark).encode(), written)
    return text if kind == EVENT_TYPES[PURCHASE] else text + _NOTHING


def minutes_of(columns: Columns, start: int) -> Ints:
    """Each event's minute, counted from `start` - LEAD."""
    return (columns.times - (start - LEAD)) // MINUTE


MINUTES = math.ceil((SPAN + LEAD) / MINUTE)

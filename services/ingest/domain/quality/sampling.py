"""Some events for many alike: whether one is kept depends on its unit alone, so that all processes agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import xxhash

from shared.messages import Event

By = Literal["user", "anonymous", "session", "job", "event"]
UNITS: tuple[By, ...] = get_args(By)
RATE = "sampleRate"
"""Where in a kept event's context it says of how many events it is one: 0.1 stands for ten."""
BUCKETS = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Keeps `buckets` of 1,000,000 units; the same ones wherever `salt` is the same."""

    buckets: int
    by: By
    salt: str


_NO_SAMPLES: Sequence[Sample] = ()


class Sampler:
    """`samples`: event type → those that apply to it; of several with the same salt the smallest holds."""

    def __init__(self, samples: Mapping[str, Sequence[Sample]]) -> None:
        self._samples = {event_type: _smallest(several) for event_type, several in samples.items()}

    def kept(self, event: Event) -> Event | None:
        """With its rate, or None if it is one of those that are left out."""
        samples = self._samples.get(event.event_type, _NO_SAMPLES)
        if not samples:
            return event
        rate = _rate(event.context.get(RATE))
        for sample in samples:
            if _bucket(sample.salt, _unit(event, sample.by)) >= sample.buckets:
                return None
            rate *= sample.buckets / BUCKETS
        return msgspec.structs.replace(event, context={**event.context, RATE: float(f"{rate:.12g}")})


def _smallest(samples: Sequence[Sample]) -> Sequence[Sample]:
    found: dict[tuple[str, By], Sample] = {}
    for sample in sorted(samples, key=lambda sample: -sample.buckets):
        found[sample.salt, sample.by] = sample
    return tuple(found.values())


def _bucket(salt: str, unit: str) -> int:
    """As Bucket v1 of experiments: multiply and shift, on integers only."""
    return (xxhash.xxh64_intdigest(f"{salt}:{unit}".encode(), seed=0) * BUCKETS) >> 64


def _unit(event: Event, by: By) -> str:
    """The event's own id stands in for one that it does not have."""
    unit: str | None = getattr(event, f"{by}_id")
    return unit or event.event_id


def _rate(stated: object) -> float:
    """That of a sender that has left out some already."""
    if isinstance(stated, int | float) and not isinstance(stated, bool) and 0 < stated <= 1:
        return float(stated)
    return 1.0

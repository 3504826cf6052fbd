"""What is off, and whom it lets pass all the same: the state that the records of `switches.v1` add up to.

```
 flag on ──off──► off, nobody passes ──off, admit [from, to)──► half-open: buckets in the range pass
    ▲                     │                                             │
    └─────────────── off = false, for every cause that held it ─────────┘
```

Each (key, variant, cause) is a switch of its own; the last record in the topic's order is its state. What several
causes hold off passes a unit only if every one of them admits it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from services.assignment.domain.bucketing import bucket_of
from shared.messages import Switch


class Verdict(Enum):
    """What a hold says about a unit that it does not keep out."""

    CLEAR = "no cause concerns it"
    PROBE = "off, but every cause admits it"


@dataclass(frozen=True, slots=True)
class Off:
    """One cause that holds a flag, an experiment (`variant` None) or one variant of it off."""

    cause: str
    variant: str | None
    since: int
    """When this cause turned it off; later records of the same outage do not move it."""
    decided_at: int
    admit_from: int = 0
    admit_to: int = 0
    evidence: Mapping[str, Any] | None = None

    @property
    def half_open(self) -> bool:
        return self.admit_from < self.admit_to

    def admits(self, bucket: int) -> bool:
        return self.admit_from <= bucket < self.admit_to


class Hold:
    """Everything that holds one flag or experiment off at a time: at least one cause, the oldest first."""

    def __init__(self, offs: Mapping[tuple[str | None, str], Off]) -> None:
        self.by_cause = offs
        self.offs = tuple(sorted(offs.values(), key=lambda off: (off.since, off.cause, off.variant or "")))

    def judge(self, bucket: int | None, variant: str | None = None) -> Off | Verdict:
        """The oldest cause that keeps the unit out, else how it passes.

        `bucket` is the unit's admission bucket, None if no unit is known: then nobody knows that it may probe.
        Causes that name another variant than `variant` do not count.
        """
        offs = [off for off in self.offs if off.variant is None or off.variant == variant]
        for off in offs:
            if bucket is None or not off.admits(bucket):
                return off
        return Verdict.PROBE if offs else Verdict.CLEAR


class Switchboard:
    """What is off now, by organisation and key."""

    def __init__(self) -> None:
        self._holds: dict[tuple[str, str], Hold] = {}

    def __len__(self) -> int:
        """Switches that are off."""
        return sum(len(hold.offs) for hold in self._holds.values())

    def apply(self, switch: Switch) -> None:
        """The records must come in the topic's order: it decides, not `decided_at`, which clocks disagree on."""
        place = (switch.organisation, switch.flag)
        present = self._holds.get(place)
        offs = {} if present is None else dict(present.by_cause)
        before = offs.pop((switch.variant, switch.cause), None)
        if switch.off:
            offs[switch.variant, switch.cause] = Off(
                cause=switch.cause,
                variant=switch.variant,
                since=switch.off_since or (switch.decided_at if before is None else before.since),
                decided_at=switch.decided_at,
                admit_from=switch.admit_from,
                admit_to=switch.admit_to,
                evidence=switch.evidence,
            )
        if offs:
            self._holds[place] = Hold(offs)
        else:
            self._holds.pop(place, None)

    def hold(self, organisation: str, key: str) -> Hold | None:
        """None if nothing holds it off."""
        return self._holds.get((organisation, key))

    def of(self, organisation: str) -> Iterator[tuple[str, Hold]]:
        """(key, hold) of everything that is off, in order of the keys."""
        found = ((key, hold) for (owner, key), hold in self._holds.items() if owner == organisation)
        return iter(sorted(found, key=lambda item: item[0]))


def experiment_admission_bucket(salt: str, unit: str) -> int:
    """Which bucket admits a unit to a half-open experiment or variant.

    Not the bucket that picks the variant: a range of those would hold units of some variants and none of others.
    """
    return bucket_of(f"{salt}:admission", unit)

"""What a run shows while it goes on: written by the driver, read by whoever draws."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from examples.imports.domain.comparison import VariantCounted
from examples.imports.domain.inbox import Received
from examples.imports.domain.ledger import Truth
from examples.imports.domain.valve import BreakerReport, FlagState


class Phase(Enum):
    """The value is what people read."""

    PREPARING = "preparing files, tables, metrics and the experiment"
    RUNNING = "users are importing"
    DRAINING = "the last users finish; held events are delivered"
    SETTLING = "waiting until the platform has counted everything"
    DONE = "done"


@dataclass(slots=True)
class Progress:
    """Mutable on purpose. Times are instants of the loop's clock."""

    experiment_key: str = ""
    phase: Phase = Phase.PREPARING
    users: int = 0
    active: int = 0
    done: int = 0
    importing: int = 0
    accepted: int = 0
    malformed: int = 0
    counted: int = 0
    late: int = 0
    given: Mapping[str, int] = field(default_factory=dict)
    """Users by variant, by the driver's own log."""
    variants: Mapping[str, VariantCounted] = field(default_factory=dict)
    """The platform's results so far."""
    diverted: int = 0
    """Users who found imports switched off."""
    failing: bool = False
    """Whether the target of the imports takes no writes now."""
    flag: FlagState = FlagState.ON
    breaker: BreakerReport = field(default_factory=lambda: BreakerReport("closed", 0, 0))
    messages: Mapping[str, int] = field(default_factory=dict)
    """Channel → messages received."""
    last_messages: Mapping[str, Sequence[Received]] = field(default_factory=dict)
    complaints: Counter[str] = field(default_factory=Counter)
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=12))

    @property
    def lag(self) -> int:
        """Accepted events that the platform has not yet counted or found late, as of the last look at it."""
        return max(0, self.accepted - self.counted - self.late)

    def complain(self, text: str) -> None:
        """Something that should not happen happened (again)."""
        self.complaints[text] += 1

    def observe(self, now: float, truth: Truth) -> None:
        self.accepted, self.malformed = truth.accepted, truth.malformed_sent
        self.diverted = truth.diverted
        self.given = {name: variant.units for name, variant in truth.variants.items()}
        self._samples.append((now, truth.accepted))

    def rate(self) -> float:
        """Accepted events a second over the last few looks."""
        if len(self._samples) < 2:
            return 0.0
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / (end - start) if end > start else 0.0

"""How patiently notifications are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from shared.clock import DAY, SECOND


@dataclass(frozen=True, slots=True)
class Patience:
    """All in seconds. `lease` must exceed `timeout`: nobody else sends while an attempt may be under way."""

    timeout: float = 10.0
    """One attempt, from the connection to the answer."""
    lease: float = 20.0
    first_delay: float = 1.0
    longest_delay: float = 60.0
    jitter: float = 0.2
    """A delay varies by this share either way."""
    give_up: float = DAY / SECOND
    pace: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({"slack": 1.0}))
    """Between two messages of a channel, by its type."""

    def delay(self, failures: int, asked: float | None, chance: float) -> float:
        """Until the next attempt after `failures` ≥ 1 in a row; `chance` is evenly distributed over [0, 1).

        A receiver that names a time gets it, but is never asked again sooner than a first retry would.
        """
        if asked is not None:
            return max(asked, self.first_delay)
        delay = min(self.first_delay * 2.0 ** min(failures - 1, 30), self.longest_delay)
        return delay * (1 + self.jitter * (2 * chance - 1))

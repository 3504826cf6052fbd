"""What became of the imports that were started, by S0's rule for abandonment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Journeys:
    """How many imports had which outcome; the outcomes add up to `started`."""

    started: int = 0
    completed: int = 0
    """Completed with whatever status: a handled failure is no abandonment."""
    abandoned_after_navigation: int = 0
    abandoned_timeout: int = 0
    in_progress: int = 0

    @property
    def abandoned(self) -> int:
        return self.abandoned_after_navigation + self.abandoned_timeout


NO_JOURNEYS = Journeys()

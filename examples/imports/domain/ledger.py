"""The driver's own log: what was sent and acknowledged and what became of each user. The truth of a run.

Nothing in here comes from the platform except acknowledgements and the variant each user was given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from examples.imports.domain.journeys import NO_JOURNEYS, Journeys


class Outcome(Enum):
    """What a client knows about one delivery of an event."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    """A timeout, a broken connection or a 5xx: the platform may or may not have it."""
    NOT_SENT = "not_sent"
    """The connection was refused, or the answer says that nothing was taken."""


@dataclass(frozen=True, slots=True)
class VariantTruth:
    """`units`: users given the variant; `completed`: those whose completion was acknowledged; mean in ms.

    `journeys` as they stand when every deadline has passed: none is in progress any more.
    """

    units: int
    completed: int
    mean_duration: float | None
    journeys: Journeys = NO_JOURNEYS

    @property
    def abandoned(self) -> int:
        return self.units - self.completed


@dataclass(frozen=True, slots=True)
class Truth:
    """A run so far. Of `duplicates_sent` copies the platform must have dropped at least `duplicates_certain`."""

    accepted: int
    """Distinct acknowledged event ids."""
    duplicates_sent: int
    duplicates_certain: int
    malformed_sent: int
    offline: int
    """Acknowledged events that were older than the platform's grace when they were sent."""
    unacknowledged: int
    """Ids that were sent and never acknowledged, so that nobody can know whether they count."""
    variants: Mapping[str, VariantTruth]
    diverted: int = 0
    """Users who found imports switched off; some of them came back later."""
    turned_away: int = 0
    """Those of them who never got in."""


class Ledger:
    """Accumulates; reads no clock and knows nothing of how events travel."""

    def __init__(self, variants: Iterable[str]) -> None:
        self._copies: Counter[str] = Counter()
        self._acknowledged: Counter[str] = Counter()
        self._malformed: set[str] = set()
        self._offline: set[str] = set()
        self._units: dict[str, str] = {}
        self._completions: dict[str, tuple[str, float]] = {}
        self._starts: dict[str, tuple[str, str]] = {}
        self._navigations: dict[str, str] = {}
        self._diverted: set[str] = set()
        self._variants = tuple(variants)

    def delivered(self, ids: Iterable[str], outcome: Outcome) -> None:
        """One delivery of each id (twice in `ids` is two copies)."""
        if outcome is Outcome.NOT_SENT:
            return
        ids = tuple(ids)
        self._copies.update(ids)
        if outcome is Outcome.ACKNOWLEDGED:
            self._acknowledged.update(ids)

    def malformed(self, event_id: str) -> None:
        """An invalid event reached the platform and was refused."""
        self._malformed.add(event_id)

    def offline(self, event_id: str) -> None:
        """`event_id` is too old for the platform to count, on purpose."""
        self._offline.add(event_id)

    def assigned(self, user: str, variant: str) -> None:
        """Raises ValueError if the user had been given another variant: assignments are sticky."""
        before = self._units.setdefault(user, variant)
        if before != variant:
            raise ValueError(f"{user} was in {before} and is now in {variant}")

    def completed(self, user: str, event_id: str, duration_ms: float) -> None:
        """The user's import ended and `event_id` tells the platform so. Counts once that is acknowledged."""
        self._completions[event_id] = (user, duration_ms)

    def started(self, user: str, event_id: str, variant: str) -> None:
        """The user's import starts in `variant` and `event_id` tells the platform so; likewise."""
        self._starts[event_id] = (user, variant)

    def navigated_away(self, user: str, event_id: str) -> None:
        """The user left the page while the import ran; likewise."""
        self._navigations[event_id] = user

    def diverted(self, user: str) -> None:
        """The user found imports switched off."""
        self._diverted.add(user)

    @property
    def accepted(self) -> int:
        return len(self._acknowledged)

    @property
    def malformed_ids(self) -> frozenset[str]:
        return frozenset(self._malformed)

    def truth(self) -> Truth:
        copies = self._copies.total()
        return Truth(
            accepted=len(self._acknowledged),
            duplicates_sent=copies - len(self._copies),
            duplicates_certain=self._acknowledged.total() - len(self._acknowledged),
            malformed_sent=len(self._malformed),
            offline=sum(event_id in self._acknowledged for event_id in self._offline),
            unacknowledged=len(self._copies.keys() - self._acknowledged.keys()),
            variants={variant: self._variant_truth(variant) for variant in self._variants},
            diverted=len(self._diverted),
            turned_away=len(self._diverted - self._units.keys()),
        )

    def _variant_truth(self, variant: str) -> VariantTruth:
        durations = [
            duration
            for event_id, (user, duration) in self._completions.items()
            if event_id in self._acknowledged and self._units.get(user) == variant
        ]
        return VariantTruth(
            units=sum(given == variant for given in self._units.values()),
            completed=len(durations),
            mean_duration=sum(durations) / len(durations) if durations else None,
            journeys=self._journeys(variant),
        )

    def _journeys(self, variant: str) -> Journeys:
        known = self._acknowledged
        started = {u for event_id, (u, given) in self._starts.items() if given == variant and event_id in known}
        completed = {u for event_id, (u, _) in self._completions.items() if event_id in known} & started
        navigated = {u for event_id, u in self._navigations.items() if event_id in known} & started
        gone = started - completed
        return Journeys(
            started=len(started),
            completed=len(completed),
            abandoned_after_navigation=len(gone & navigated),
            abandoned_timeout=len(gone - navigated),
        )

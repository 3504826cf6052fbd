"""Draws a run's events from a seed: disordered, doubled, late, in the future and malformed. Its own log is the truth.

            base − 30 h     base − 20 h              base − 30 min   base − 3 min      base (the run begins)
                 │ late: 25 to 30 h │ some, disordered       │ most, disordered │
    ─────────────┴──────────────────┴────────────────────────┴──────────────────┴────────────► event time

Every partition's watermark is at the base before the first of them, so grace (24 h) separates late from counted
whatever order they arrive in; and all minutes and deadlines are over when the run ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.clock import DAY, HOUR, MINUTE, SECOND, to_iso
from tests.faults.aspects import Aspect
from tests.faults.aspects.sequences import TIMEOUT, Journeys, Streaks
from tests.faults.aspects.units import EXPOSURE, VARIANTS, Units
from tests.faults.aspects.windows import Amounts, Counts, Shares
from tests.faults.drawn import Drawn, Fate

BATCH = 400
_USERS = 3_000
_SESSIONS = 2_000
_SHOPS = ("north", "süd", 'o"st', None)
_OLD_MINUTES = 40
"""Old events fall into this many minutes, or there would be more rows than events."""
_EVERY_PARTITION = 64
"""So many users that each partition has some."""
_REMEMBERED = 5_000
_RESENT_SINGLY = 0.06
_LATE = 0.005
_REFUSED = 0.002
_ODD_AMOUNTS: tuple[Any, ...] = ("12.50", True, [1.5], {"cents": 1}, 1e300)


@dataclass(frozen=True, slots=True)
class Part:
    """Events to be sent together, in batches; those in `refused` must be called invalid by ingest."""

    batches: Sequence[Sequence[dict[str, Any]]]
    refused: frozenset[str]


@dataclass(slots=True)
class Generator:
    """`prefix` keeps runs on one stack apart; `base` is the time (µs) at which the run begins."""

    prefix: str
    seed: int
    base: int
    drawn: int = 0
    """Events drawn so far that ingest must accept."""
    resent: int = 0
    """Events that come again in the batches of others."""
    _rng: random.Random = field(init=False)
    _pending: list[Drawn] = field(default_factory=list)
    _sent: list[dict[str, Any]] = field(default_factory=list)
    _old_minutes: list[int] = field(init=False)
    _jobs: int = 0
    counts: Counts = field(init=False)
    by_user: Units = field(init=False)
    aspects: tuple[Aspect, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._old_minutes = [self.base - self._rng.randrange(30, 1_200) * MINUTE for _ in range(_OLD_MINUTES)]
        amounts = Amounts(self.prefix, self._type("purchased"))
        self.counts = Counts(
            self.prefix,
            tuple(map(self._type, ("purchased", "viewed", "ended", "started", "mapped", "left"))),
        )
        self.by_user = Units(f"{self.prefix}_by_user", "user", amounts.metric, amounts.type)
        self.aspects = (
            self.counts,
            amounts,
            Shares(self.prefix, self._type("ended")),
            self.by_user,
            Units(f"{self.prefix}_by_session", "session", amounts.metric, amounts.type),
            Streaks(self.prefix, self._type("ended")),
            Journeys(self.prefix),
        )

    def opening(self) -> Part:
        """Brings every partition's watermark to the base."""
        return self._part([self._view(f"u{n}", self.base) for n in range(_EVERY_PARTITION)], resend=False)

    def part(self, events: int) -> Part:
        """About `events` new events, disordered among those of earlier parts, and resends."""
        return self._part([self._draw() for _ in range(events)], resend=True)

    def closing(self, now: int) -> Part:
        """What is still to come of journeys; then every partition's watermark goes to `now`, past every deadline."""
        rest, self._pending = self._pending, []
        last = [self._view(f"u{n}", now) for n in range(_EVERY_PARTITION)]
        return self._part([*rest, *last], resend=False)

    def purchase_of(self, user: str, time: int) -> Part:
        """One purchase by a user who was assigned elsewhere."""
        return self._part([self._purchase(user, time, Fate.COUNTED)], resend=False)

    def records(self) -> list[tuple[str, bytes]]:
        """(key, value) of records that ingest would refuse, each a dead letter when put straight into the log."""
        ahead = {
            "organisation": "default",
            "event_id": f"{self.prefix}-ahead",
            "event_type": self._type("purchased"),
            "time": self.base + 3 * DAY,
            "properties": {"amount": 1.0},
        }
        broken = [orjson.dumps(ahead), b"{", b"", b"[]", b"\xff\xfe", b'{"organisation":"default"}', b"1 2"]
        return [(f"u{self._rng.randrange(_USERS)}", value) for value in broken]

    def _part(self, events: list[Drawn], *, resend: bool) -> Part:
        refused: set[str] = set()
        bodies = []
        for event in events:
            for aspect in self.aspects:
                aspect.add(event)
            bodies.append(event.body())
        self.drawn += len(bodies)
        if resend:
            bodies = self._with_resends(bodies)
            bad = [self._malformed(n) for n in range(max(1, round(len(bodies) * _REFUSED)))]
            for body in bad:
                bodies.insert(self._rng.randrange(len(bodies)), body)
            refused = {body["event_id"] for body in bad}
        return Part([bodies[at : at + BATCH] for at in range(0, len(bodies), BATCH)], frozenset(refused))

    def _with_resends(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Some events come again, in another batch than the first time as a rule."""
        mixed: list[dict[str, Any]] = []
        for body in bodies:
            mixed.append(body)
            if self._sent and self._rng.random() < _RESENT_SINGLY:
                mixed.append(self._rng.choice(self._sent))
                self.resent += 1
        self._sent = (self._sent + self._rng.sample(bodies, len(bodies) // 5))[-_REMEMBERED:]
        return mixed

    def _draw(self) -> Drawn:
        choice = self._rng.random()
        if choice < 0.25:
            if len(self._pending) < 1_000:
                self._pending += self._journey()
            if self._pending:
                return self._pending.pop(self._rng.randrange(len(self._pending)))
        user = f"u{self._rng.randrange(_USERS)}"
        fate = Fate.LATE if self._rng.random() < _LATE else Fate.COUNTED
        time = self._late_time() if fate is Fate.LATE else self._time()
        if choice < 0.35:
            return self._exposure(user)
        if choice < 0.45:
            status = "ok" if self._rng.random() < 0.002 else "failed"
            return self._event("ended", time, user, fate=fate, properties={"status": status, "shop": self._shop()})
        return self._purchase(user, time, fate) if choice < 0.85 else self._view(user, time, fate)

    def _purchase(self, user: str, time: int, fate: Fate) -> Drawn:
        amount: Any = self._rng.randrange(1, 100_000) / 100
        odd = self._rng.random()
        if odd < 0.02 and fate is Fate.COUNTED:
            amount = None if odd < 0.01 else self._rng.choice(_ODD_AMOUNTS)
        session = f"{self.prefix}-s{self._rng.randrange(_SESSIONS)}"
        properties = {"amount": amount, "shop": self._shop()}
        return self._event("purchased", time, user, session=session, fate=fate, properties=properties)

    def _view(self, user: str, time: int, fate: Fate = Fate.COUNTED) -> Drawn:
        return self._event("viewed", time, user, fate=fate)

    def _exposure(self, user: str) -> Drawn:
        """A unit's variant follows from its name, but for a few that are shown both."""
        session = f"{self.prefix}-s{self._rng.randrange(_SESSIONS)}"
        unit, experiment = self._rng.choice([(user, "by_user"), (session, "by_session")])
        variant = VARIANTS[(hash_of(unit) + (self._rng.random() < 0.01)) % 2]
        properties = {"experiment": f"{self.prefix}_{experiment}", "variant": variant, "unit": unit}
        event = self._event("exposed", self._time(), user, session=session, properties=properties)
        return Drawn(event.id, event.kind, EXPOSURE, event.time, event.fate, user, session, None, properties)

    def _journey(self) -> Iterable[Drawn]:
        """All events of some jobs, each through its own user or through several: those lie in other partitions."""
        found = []
        for _ in range(100):
            self._jobs += 1
            job, user, start = f"{self.prefix}-j{self._jobs}", f"u{self._rng.randrange(_USERS)}", self._time()
            for kind, chance, longest in (
                ("started", 0.95, 0),
                ("mapped", 0.5, 30),
                ("left", 0.5, 60),
                ("completed", 0.4, 2 * TIMEOUT // SECOND),
                ("cancelled", 0.1, 90),
            ):
                if self._rng.random() < chance:
                    time = start + (self._rng.randrange(1, longest * SECOND) if longest else 0)
                    through = user if self._rng.random() < 0.7 else f"u{self._rng.randrange(_USERS)}"
                    shop = self._shop() if kind == "started" else None
                    found.append(self._event(kind, time, through, job=job, properties={"shop": shop}))
        return found

    def _malformed(self, number: int) -> dict[str, Any]:
        """What ingest must refuse, each for another reason."""
        identity = f"{self.prefix}-bad-{self.drawn}-{number}"
        body = self._view("u0", self.base).body() | {"event_id": identity}
        faults: tuple[dict[str, Any], ...] = (
            {"event_timestamp": to_iso(self.base + 2 * DAY)},
            {"event_timestamp": "yesterday"},
            {"event_type": ""},
            {"event_data": {"note": "nul \x00"}},
            {"event_data": [1]},
        )
        return body | faults[number % len(faults)]

    def _event(
        self,
        kind: str,
        time: int,
        user: str,
        *,
        fate: Fate = Fate.COUNTED,
        session: str | None = None,
        job: str | None = None,
        properties: dict[str, Any] | None = None,
    ) -> Drawn:
        identity = f"{self.prefix}-{self._rng.getrandbits(64):016x}"
        return Drawn(identity, kind, self._type(kind), time, fate, user, session, job, properties or {})

    def _time(self) -> int:
        """Within grace. Microseconds make two equal times unlikely enough."""
        if self._rng.random() < 0.15:
            return self._rng.choice(self._old_minutes) + self._rng.randrange(MINUTE)
        return self.base - self._rng.randrange(3 * MINUTE + 2 * TIMEOUT, 30 * MINUTE)

    def _late_time(self) -> int:
        return self.base - self._rng.randrange(25 * HOUR, 30 * HOUR)

    def _shop(self) -> str | None:
        return self._rng.choice(_SHOPS)

    def _type(self, kind: str) -> str:
        return f"{self.prefix}_{kind}"


def hash_of(unit: str) -> int:
    """The same in every process, unlike Python's own."""
    return sum(map(ord, unit))

"""Replaying dead letters, so that each counts once: through the judge of all events, then into `events.v1`.

    claim (first in the log holds) ──► event stored ──► marked as replayed

A process may die, or Kafka fall silent, at either arrow. Then the letter stays claimed, and whoever replays it next
finds out what happened: the same event may be sent again while duplicates are still recognised; later, or if it would
be another event, the log tells whether the first was stored.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from services.ingest.domain.letters.correction import Correction, Reader, event_of
from services.ingest.domain.letters.ledger import ALIVE, Claim, Ledger, State
from services.ingest.domain.normalise import Rejected
from services.ingest.domain.quality.aside import SetAside
from services.ingest.event_log import EventLog, Record
from services.ingest.intake import Intake, Sender
from services.ingest.letters.event_finder import EventFinder
from services.ingest.letters.search import Found
from services.ingest.metrics import IngestMetrics
from shared.clock import MINUTE, Clock
from shared.keys import Principal
from shared.messages import DeadLetter, DeadLetterMark, Event, LetterMark
from shared.topics import DEAD_LETTER_MARKS, EVENTS

RECOGNISED = 30 * MINUTE
"""The aggregator knows duplicates for at least 35 minutes: for so long the event of a claim may be sent again."""
SETTLED = MINUTE
"""What a claim announced is stored by then or never will be."""


class Hindrance(Enum):
    """Why a letter is not replayed now although its event may be valid; the value is the machine-readable reason."""

    REPLAYED = "already_replayed"
    BUSY = "replay_in_progress"


@dataclass(frozen=True, slots=True)
class Replayed:
    event_id: str


Outcome = Replayed | Hindrance | Rejected | SetAside


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants what: `attempt` names it among all requests."""

    principal: Principal
    correction: Correction
    attempt: str


@dataclass(slots=True)
class _Round:
    """Letters on their way, by id; what has an outcome is no longer under way."""

    letters: dict[str, DeadLetter]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)

    def decide(self, letter: str, outcome: Outcome) -> None:
        self.outcomes[letter] = outcome
        self.events.pop(letter, None)


class Replayer:
    """`catch_up` returns when the ledger knows every mark that was stored before the call; `reader_of` says what
    reads a letter's payload.

    Its methods raise NotStoredError, KafkaError or TimeoutError: then ask again with the same correction.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        events: EventLog,
        marks: EventLog,
        ledger: Ledger,
        catch_up: Callable[[], Awaitable[object]],
        finder: EventFinder,
        reader_of: Callable[[DeadLetter], Reader],
        clock: Clock,
        metrics: IngestMetrics,
    ) -> None:
        self._intake = intake
        self._events = events
        self._marks = marks
        self._ledger = ledger
        self._catch_up = catch_up
        self._finder = finder
        self._reader_of = reader_of
        self._clock = clock
        self._metrics = metrics

    async def try_out(self, found: Sequence[Found], request: Request) -> list[Outcome]:
        """What `replay` would answer; nothing is stored."""
        round_ = await self._judged(found, request)
        for letter, event in list(round_.events.items()):
            round_.decide(letter, Replayed(event.event_id))
        return self._in_order(found, round_)

    async def replay(self, found: Sequence[Found], request: Request) -> list[Outcome]:
        """An outcome for each, once Kafka has the events and the marks. Letters that are refused stay as they are."""
        round_ = await self._judged(found, request)
        await self._claim(round_, request)
        if round_.events:
            await self._events.append([(EVENTS.key(event), EVENTS.encode(event)) for event in round_.events.values()])
            self._metrics.accepted.inc(len(round_.events))
            await self._mark("replayed", round_, list(round_.events), request)
            for letter, event in list(round_.events.items()):
                round_.decide(letter, Replayed(event.event_id))
                self._metrics.replayed.inc()
        return self._in_order(found, round_)

    async def discard(self, found: Sequence[Found], request: Request) -> list[State]:
        """What each letter is afterwards: discarded, or what it was if it is no longer open."""
        await self._catch_up()
        letters = {one.letter.id: one.letter for one in found if self._ledger.state(one.letter.id) is State.OPEN}
        if letters:
            await self._mark("discarded", _Round(letters), list(letters), request)
            self._metrics.discarded.inc(len(letters))
            await self._catch_up()
        return [self._ledger.state(one.letter.id) for one in found]

    async def _judged(self, found: Sequence[Found], request: Request) -> _Round:
        """Events for what is valid and has not been replayed, outcomes for the rest."""
        await self._catch_up()
        round_ = _Round({one.letter.id: one.letter for one in found})
        open_ = []
        for letter in round_.letters.values():
            if self._ledger.state(letter.id) is State.REPLAYED:
                round_.decide(letter.id, Hindrance.REPLAYED)
            else:
                open_.append(letter)
        given = [event_of(letter, request.correction, self._reader_of(letter)) for letter in open_]
        # Nobody's letters become events of whoever looks after them.
        verdicts = await self._intake.judge(given, Sender(request.principal.organisation, origin="replay"))
        for letter, verdict in zip(open_, verdicts, strict=True):
            if isinstance(verdict, Event):
                round_.events[letter.id] = verdict
            else:
                round_.decide(letter.id, verdict)
        return round_

    async def _claim(self, round_: _Round, request: Request) -> None:
        """Leaves the events of those letters that may be replayed now."""
        left_behind: defaultdict[str, dict[str, Claim]] = defaultdict(dict)
        free: list[str] = []
        for letter, event in round_.events.items():
            claim = self._ledger.claim(letter)
            if claim is None or self._repeats(claim, event):
                free.append(letter)
            else:
                left_behind[claim.attempt][letter] = claim
        for claims in left_behind.values():
            free += await self._resolved(claims, round_, request)
        if not free:
            return
        await self._mark("claimed", round_, free, request)
        await self._catch_up()
        for letter in free:
            claim = self._ledger.claim(letter)
            if claim is None or claim.attempt != request.attempt:
                round_.decide(letter, Hindrance.REPLAYED if claim is None else Hindrance.BUSY)

    async def _resolved(self, claims: Mapping[str, Claim], round_: _Round, request: Request) -> list[str]:
        """Of letters (id → one attempt's claim) those whose event was not stored; the claims to them are released."""
        since = min(claim.since for claim in claims.values())
        until = max(claim.renewed for claim in claims.values()) + SETTLED
        if self._clock() < until:
            for letter in claims:
                round_.decide(letter, Hindrance.BUSY)
            return []
        stored = await self._finder.stored({c.event_id: c.event_key for c in claims.values()}, since, until)
        free = [letter for letter, claim in claims.items() if claim.event_id not in stored]
        marks = [
            msgspec.structs.replace(
                self._marked("released" if letter in free else "replayed", round_.letters[letter], request),
                attempt=claim.attempt,
                event_id=claim.event_id,
            )
            for letter, claim in claims.items()
        ]
        await self._store(marks)
        for letter in claims.keys() - free:
            round_.decide(letter, Hindrance.REPLAYED)
        return free

    def _repeats(self, claim: Claim, event: Event) -> bool:  # a comparison of values
        """Whether to claim anew and send what somebody has claimed to send, who is dead or has given up."""
        now = self._clock()
        is_left = now - claim.renewed >= ALIVE
        return claim.event_digest == _digest(event) and is_left and now - claim.since < RECOGNISED

    async def _mark(self, mark: LetterMark, round_: _Round, letters: Sequence[str], request: Request) -> None:
        await self._store(
            [self._marked(mark, round_.letters[one], request, round_.events.get(one)) for one in letters]
        )

    def _marked(
        self, mark: LetterMark, letter: DeadLetter, request: Request, event: Event | None = None
    ) -> DeadLetterMark:
        return DeadLetterMark(
            letter=letter.id,
            organisation=letter.organisation,
            mark=mark,
            marked_at=self._clock(),
            attempt=request.attempt,
            event_id=event.event_id if event else None,
            event_key=EVENTS.key(event) if event else None,
            event_digest=_digest(event) if event else None,
            by=request.principal.key,
        )

    async def _store(self, marks: Sequence[DeadLetterMark]) -> None:
        records: list[Record] = [(DEAD_LETTER_MARKS.key(m), DEAD_LETTER_MARKS.encode(m)) for m in marks]
        await self._marks.append(records)

    @staticmethod
    def _in_order(found: Sequence[Found], round_: _Round) -> list[Outcome]:
        """A letter that lies there twice is replayed once."""
        told: set[str] = set()
        outcomes: list[Outcome] = []
        for one in found:
            outcome = round_.outcomes[one.letter.id]
            again = one.letter.id in told and isinstance(outcome, Replayed)
            outcomes.append(Hindrance.REPLAYED if again else outcome)
            told.add(one.letter.id)
        return outcomes


def _digest(event: Event) -> str:
    """Tells whether two replays of a letter make the same event of it; each receives it anew."""
    said = EVENTS.encode(msgspec.structs.replace(event, received_at=0))
    return hashlib.blake2b(said, digest_size=8).hexdigest()

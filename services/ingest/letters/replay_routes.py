"""Dead letters to act on: replayed, corrected if need be, or discarded; singly, or all that are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from aiokafka.errors import KafkaError
from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.ingest.domain.letters.correction import Correction
from services.ingest.domain.letters.ledger import State
from services.ingest.domain.letters.selection import Viewer
from services.ingest.domain.normalise import Rejected
from services.ingest.domain.quality.aside import SetAside
from services.ingest.event_log import NotStoredError
from services.ingest.http import DEAD_LETTER_PATH
from services.ingest.letters.replay import Hindrance, Outcome, Replayed, Replayer, Request
from services.ingest.letters.routes import Asked, LetterBox, Who, cursor_of
from services.ingest.letters.shown import StateName
from shared.http import Problem, StrictRoute, unavailable
from shared.kafka import ReplicaStoppedError

SECONDS = 10.0
"""So long an operation on many letters goes on; what it has not reached by then is where its cursor says."""
AT_ONCE = 500

_Path = Annotated[str, Field(min_length=1, max_length=500)]
_RENAME = "Path of a field → its new path, e.g. `event_data.job` → `job_id`; done before `patch`"
_PATCH = "A JSON merge patch (RFC 7396) for what was received: null removes a field"


class ReplayBody(BaseModel, extra="forbid"):
    """How to correct the letter; by default it is judged again as it was received."""

    event: dict[str, Any] | None = Field(default=None, description="The event to send instead")
    rename: dict[_Path, _Path] = Field(default_factory=dict, description=_RENAME)
    patch: dict[str, Any] | None = Field(default=None, description=_PATCH)


class ReplayManyBody(BaseModel, extra="forbid"):
    """Which letters to replay, and how to correct each."""

    filter: Asked = Field(default_factory=Asked)
    state: Literal["open", "discarded"] = "open"
    rename: dict[_Path, _Path] = Field(default_factory=dict, description=_RENAME)
    patch: dict[str, Any] | None = Field(default=None, description=_PATCH)
    dry_run: bool = Field(default=False, description="Judge only: nothing is stored")
    cursor: str | None = Field(default=None, description="`next_cursor` of the answer before")


class DiscardManyBody(BaseModel, extra="forbid"):
    """Which letters nobody wants."""

    filter: Asked
    cursor: str | None = Field(default=None, description="`next_cursor` of the answer before")


class ReplayedLetter(BaseModel):
    id: str
    event_id: str
    status: Literal["accepted"]


class SettledLetter(BaseModel):
    id: str
    state: StateName


class ManyReplayed(BaseModel):
    """What became of the letters that the filter found."""

    found: int
    valid: int = Field(description="So many have been replayed or, in a dry run, would be")
    replayed: int
    invalid: dict[str, int] = Field(description="Reason → letters that are still refused and stay as they are")
    hindered: dict[str, int] = Field(description="`already_replayed` or `replay_in_progress` → letters")
    searched: int
    next_cursor: str | None = Field(
        description="null if the operation reached the end, else where to go on: send the same with this cursor"
    )


class ManyDiscarded(BaseModel):
    found: int
    discarded: int
    searched: int
    next_cursor: str | None


def replay_routes(box: LetterBox, replayer: Replayer, new_id: Callable[[], str]) -> APIRouter:
    router = APIRouter(tags=["dead letters"], prefix=DEAD_LETTER_PATH, route_class=StrictRoute)

    @router.post("/replay")
    async def replay_dead_letters(principal: Who, body: ReplayManyBody) -> ManyReplayed:
        """Judges all that the filter finds once more, oldest first, and stores the events that are valid now.

        Sending the same again is safe: what has been replayed is not replayed again.
        """
        request = Request(principal, Correction(rename=body.rename, patch=body.patch), new_id())
        tally = _Tally()
        states = {State.OPEN, State.CLAIMED} if body.state == "open" else {State.DISCARDED}
        start = cursor_of(body.cursor)
        with _confirmed(tally):
            await box.catch_up()
            wanted = box.wanted(body.filter, Viewer.of(principal), frozenset(states))
            deadline = box.search.now() + SECONDS
            async for page in box.search.oldest(wanted, start):
                for at in range(0, len(page.found), AT_ONCE):
                    some = page.found[at : at + AT_ONCE]
                    act = replayer.try_out if body.dry_run else replayer.replay
                    tally.add(await act(some, request), stored=not body.dry_run)
                tally.passed(page.searched, page.cursor)
                if box.search.now() > deadline:
                    break
        return tally.answer()

    @router.post("/discard")
    async def discard_dead_letters(principal: Who, body: DiscardManyBody) -> ManyDiscarded:
        """Marks all open letters that the filter finds as discarded. They can still be replayed."""
        request = Request(principal, Correction(), new_id())
        tally = _Tally()
        start = cursor_of(body.cursor)
        with _confirmed(tally):
            await box.catch_up()
            wanted = box.wanted(body.filter, Viewer.of(principal), frozenset({State.OPEN}))
            deadline = box.search.now() + SECONDS
            async for page in box.search.oldest(wanted, start):
                tally.found += len(page.found)
                tally.discarded += (await replayer.discard(page.found, request)).count(State.DISCARDED)
                tally.passed(page.searched, page.cursor)
                if box.search.now() > deadline:
                    break
        return ManyDiscarded(
            found=tally.found, discarded=tally.discarded, searched=tally.searched, next_cursor=tally.next_cursor
        )

    @router.post("/{id}/replay", status_code=202, responses={409: {"description": "It has been replayed before"}})
    async def replay_dead_letter(principal: Who, id: str, body: ReplayBody | None = None) -> ReplayedLetter:
        """Judges the letter once more, corrected if need be, and stores its event.

        422 with the reason if it is still refused; 409 if it has been replayed before. Neither changes anything.
        """
        given = body or ReplayBody()
        request = Request(principal, Correction(given.event, given.rename, given.patch), new_id())
        with _confirmed(_Tally()):
            found = await box.one(id, Viewer.of(principal))
            (outcome,) = await replayer.replay([found], request)
        if isinstance(outcome, Rejected | SetAside):
            raise Problem(422, outcome.reason.value, outcome.detail, extra={"event_id": outcome.event_id})
        if outcome is Hindrance.BUSY:
            detail = "somebody is replaying this letter, or tried and was cut off; ask again"
            raise unavailable(detail, reason=outcome.value, retry_after=5)
        if isinstance(outcome, Hindrance):
            mark = box.ledger.settled_by(found.letter.id)
            extra = {"event_id": mark.event_id} if mark is not None else {}
            raise Problem(409, outcome.value, "this letter's event has been stored before", extra=extra)
        return ReplayedLetter(id=id, event_id=outcome.event_id, status="accepted")

    @router.post("/{id}/discard")
    async def discard_dead_letter(principal: Who, id: str) -> SettledLetter:
        """Marks the letter as discarded if it is open; answers what it is now. It can still be replayed."""
        with _confirmed(_Tally()):
            found = await box.one(id, Viewer.of(principal))
            (state,) = await replayer.discard([found], Request(principal, Correction(), new_id()))
        return SettledLetter(id=id, state=state.value)

    return router


class _Tally:
    """What an operation has done so far."""

    def __init__(self) -> None:
        self.found = self.valid = self.replayed = self.discarded = self.searched = 0
        self.invalid, self.hindered = Counter[str](), Counter[str]()
        self.next_cursor: str | None = None

    def add(self, outcomes: list[Outcome], *, stored: bool) -> None:
        self.found += len(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Replayed):
                self.valid += 1
                self.replayed += stored
            elif isinstance(outcome, Rejected | SetAside):
                self.invalid[outcome.reason.value] += 1
            else:
                self.hindered[outcome.value] += 1

    def passed(self, searched: int, cursor: object | None) -> None:
        self.searched += searched
        self.next_cursor = None if cursor is None else str(cursor)

    def answer(self) -> ManyReplayed:
        return ManyReplayed(
            found=self.found,
            valid=self.valid,
            replayed=self.replayed,
            invalid=dict(self.invalid),
            hindered=dict(self.hindered),
            searched=self.searched,
            next_cursor=self.next_cursor,
        )


@contextmanager
def _confirmed(tally: _Tally) -> Iterator[None]:
    """What Kafka does not confirm becomes a 503 that says how far the operation got."""
    try:
        yield
    except (NotStoredError, KafkaError, TimeoutError, ReplicaStoppedError):
        raise Problem(
            503,
            "not_confirmed",
            "Kafka has not confirmed all of it; send the same again",
            headers={"Retry-After": "1"},
            extra={"replayed": tally.replayed, "discarded": tally.discarded},
        ) from None

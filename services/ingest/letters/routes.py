"""Dead letters to look at: listed, one by one, counted and exported."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from services.ingest.domain.letters.ledger import Ledger, State
from services.ingest.domain.letters.selection import Reference, Selection, Viewer
from services.ingest.http import DEAD_LETTER_PATH
from services.ingest.letters.search import Found, LetterSearch, Wanted
from services.ingest.letters.shown import DeadLetterItem, DeadLetterList, StateName, encoded, item
from shared.clock import from_datetime, to_iso
from shared.http import Problem, StrictRoute, principal_of, unavailable
from shared.kafka import ReplicaStoppedError
from shared.keys import Principal
from shared.topic_search import Bounds, Cursor, Page

MAX_LIMIT = 10_000
LIST_SECONDS = 3.0
COUNT_SECONDS = 5.0
"""So long a search goes on; what it has not reached by then is where its cursor says."""

Who = Annotated[Principal, Depends(principal_of)]
MAX_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class LetterBox:
    """What all routes need: the letters, what became of them, and how to hear the latest of it."""

    search: LetterSearch
    ledger: Ledger
    catch_up: Callable[[], Awaitable[object]]

    def wanted(self, asked: Asked, viewer: Viewer, states: frozenset[State]) -> Wanted:
        """`states`: any of these; empty for all."""
        ledger = self.ledger

        def in_state(found: Found) -> Found | None:
            return found if not states or ledger.state(found.letter.id) in states else None

        selection = Selection(asked.reason, asked.origin, asked.event_type, asked.text)
        return Wanted(viewer, selection, _micros(asked.since), _micros(asked.until), in_state)

    async def asked_for(
        self, asked: AskedWithState, principal: Principal, cursor: str | None
    ) -> tuple[Wanted, Cursor | None]:
        """What is wanted by what is known now, and where to begin. Raises Problem 422."""
        start = cursor_of(cursor)
        await self.catch_up()
        return self.wanted(asked, Viewer.of(principal), _states(asked.state)), start

    async def one(self, id: str, viewer: Viewer) -> Found:
        """Raises Problem 404."""
        reference = Reference.parsed(id)
        found = None if reference is None else await self.search.one(reference, viewer)
        if found is None:
            raise Problem(404, "not_found", "there is no such dead letter")
        await self.catch_up()
        return found


class Asked(BaseModel, extra="forbid"):
    """Which dead letters are meant; what is left out may be anything."""

    reason: Annotated[str | None, Field(max_length=MAX_TEXT, description="Refused for this reason")] = None
    origin: Annotated[str | None, Field(max_length=MAX_TEXT, description="Came in this way")] = None
    event_type: Annotated[str | None, Field(max_length=MAX_TEXT, description="JSON whose `event_type` is this")] = (
        None
    )
    text: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_TEXT, description="Stands in what was received, or in `detail`"),
    ] = None
    since: Annotated[datetime | None, Field(description="Rejected at this time or later")] = None
    until: Annotated[datetime | None, Field(description="Rejected before this time")] = None


class AskedWithState(Asked):
    state: StateName | None = None


class DeadLetterCounts(BaseModel):
    """How many letters there are, in all and cut in several ways. Days are UTC."""

    total: int
    by_reason: dict[str, int]
    by_origin: dict[str, int]
    by_state: dict[str, int]
    by_day: dict[str, dict[str, int]] = Field(description="Day → reason → count")
    searched: int
    next_cursor: str | None = Field(
        description="null if all have been counted, else where the search was cut short: add what it gives from there"
    )


def cursor_of(text: str | None) -> Cursor | None:
    """Raises Problem 422."""
    if text is None:
        return None
    cursor = Cursor.parsed(text)
    if cursor is None:
        raise Problem(422, "bad_cursor", "a cursor is the text that an answer gave as next_cursor")
    return cursor


def letter_routes(box: LetterBox) -> APIRouter:
    router = APIRouter(tags=["dead letters"], prefix=DEAD_LETTER_PATH, route_class=StrictRoute)

    @router.get("", response_model=DeadLetterList)
    async def list_dead_letters(
        principal: Who,
        asked: Annotated[AskedWithState, Depends(_asked)],
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        cursor: Annotated[str | None, Query(description="`next_cursor` of the answer before")] = None,
    ) -> Response:
        """The organisation's dead letters, newest first: `limit` of them, or fewer if they are large or rare."""
        with outages():
            wanted, start = await box.asked_for(asked, principal, cursor)
            bounds = Bounds(found=limit, deadline=box.search.now() + LIST_SECONDS)
            page = await box.search.newest(wanted, bounds, start)
        items = [item(found, box.ledger) for found in page.found]
        return _json({"items": items, "searched": page.searched, "next_cursor": _text(page.cursor)})

    @router.get("/counts", response_model=DeadLetterCounts)
    async def count_dead_letters(
        principal: Who,
        asked: Annotated[AskedWithState, Depends(_asked)],
        cursor: Annotated[str | None, Query(description="`next_cursor` of the answer before")] = None,
    ) -> Response:
        """How many there are for each reason, origin, state and day."""
        with outages():
            wanted, start = await box.asked_for(asked, principal, cursor)
            async with box.search.turns.one():
                counts = await _counted(box, wanted, start)
        return _json(counts)

    @router.get(
        "/export",
        response_class=Response,
        responses={200: {"content": {"application/x-ndjson": {}}, "description": "One dead letter a line"}},
    )
    async def export_dead_letters(
        principal: Who,
        asked: Annotated[AskedWithState, Depends(_asked)],
        cursor: Annotated[str | None, Query(description="`next_cursor` of counts")] = None,
    ) -> Response:
        """All of them, oldest first, one JSON object a line; those that come while it runs are not among them."""
        with outages():
            wanted, start = await box.asked_for(asked, principal, cursor)
            pages = box.search.oldest(wanted, start)
            # An outage is an answer as long as none has begun; later it breaks off the answer.
            first = await anext(pages, None)
        return StreamingResponse(_lines(box, first, pages), media_type="application/x-ndjson")

    @router.get("/{id}", response_model=DeadLetterItem)
    async def dead_letter(principal: Who, id: str) -> Response:
        """One of them."""
        with outages():
            found = await box.one(id, Viewer.of(principal))
        return _json(item(found, box.ledger))

    return router


@contextmanager
def outages() -> Iterator[None]:
    """What says that Kafka does not answer becomes a 503."""
    try:
        yield
    except (KafkaError, TimeoutError, ReplicaStoppedError):
        raise unavailable("Kafka does not show the dead letters at the moment") from None


async def _counted(box: LetterBox, wanted: Wanted, start: Cursor | None) -> dict[str, object]:
    reasons, origins, states = Counter[str](), Counter[str](), Counter[str]()
    days: defaultdict[str, Counter[str]] = defaultdict(Counter)
    searched = 0
    cursor: Cursor | None = None
    deadline = box.search.now() + COUNT_SECONDS
    async for page in box.search.oldest(wanted, start):
        searched += page.searched
        cursor = page.cursor
        for found in page.found:
            letter = found.letter
            reasons[letter.reason] += 1
            origins[letter.origin] += 1
            states[box.ledger.state(letter.id).value] += 1
            days[to_iso(found.rejected_at)[:10]][letter.reason] += 1
        if box.search.now() > deadline:
            break
    return {
        "total": reasons.total(),
        "by_reason": reasons,
        "by_origin": origins,
        "by_state": states,
        "by_day": days,
        "searched": searched,
        "next_cursor": _text(cursor),
    }


async def _lines(box: LetterBox, first: Page[Found] | None, rest: AsyncIterator[Page[Found]]) -> AsyncIterator[bytes]:
    if first is None:
        return
    for found in first.found:
        yield bytes(item(found, box.ledger)) + b"\n"
    async for page in rest:
        for found in page.found:
            yield bytes(item(found, box.ledger)) + b"\n"


def _asked(
    reason: Annotated[str | None, Query(max_length=MAX_TEXT, description="Refused for this reason")] = None,
    origin: Annotated[str | None, Query(max_length=MAX_TEXT, description="Came in this way")] = None,
    event_type: Annotated[
        str | None, Query(max_length=MAX_TEXT, description="JSON whose `event_type` is this")
    ] = None,
    text: Annotated[
        str | None,
        Query(min_length=1, max_length=MAX_TEXT, description="Stands in what was received, or in `detail`"),
    ] = None,
    state: Annotated[StateName | None, Query()] = None,
    since: Annotated[datetime | None, Query(description="Rejected at this time or later")] = None,
    until: Annotated[datetime | None, Query(description="Rejected before this time")] = None,
) -> AskedWithState:
    return AskedWithState(
        reason=reason, origin=origin, event_type=event_type, text=text, state=state, since=since, until=until
    )


def _states(name: StateName | None) -> frozenset[State]:
    return frozenset() if name is None else frozenset({State(name)})


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else from_datetime(moment)


def _text(cursor: Cursor | None) -> str | None:
    return None if cursor is None else str(cursor)


def _json(answer: object) -> Response:
    return Response(encoded(answer), media_type="application/json")

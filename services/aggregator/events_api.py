"""Recent events and predictions over REST."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from services.aggregator.domain.listing import Wanted
from services.aggregator.recent_events import RecentEvents, Shown
from shared.clock import from_datetime
from shared.http import Problem, StrictRoute, principal_of
from shared.keys import Principal
from shared.paging import LINK, LINK_HEADER, next_page
from shared.topic_search import Cursor, Page

_PREFIX = "/api/v1/streaming-analytics"
_Asker = Annotated[Principal, Depends(principal_of)]
_Id = Annotated[str | None, Query(max_length=256)]
_Name = Annotated[str | None, Query(max_length=200)]
_Source = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
_From = Annotated[
    datetime | None, Query(alias="from", description="Happened then or later", examples=["2026-03-02T12:00:00Z"])
]
_To = Annotated[
    datetime | None, Query(alias="to", description="Happened before then", examples=["2026-03-02T18:00:00Z"])
]
_Limit = Annotated[int, Query(ge=1, le=1_000)]
_After = Annotated[str | None, Query(max_length=2_000, description="As the `Link` header of the page before has it")]
_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"headers": LINK_HEADER}}


def event_routes(recent: RecentEvents) -> APIRouter:
    routes = APIRouter(route_class=StrictRoute, prefix=_PREFIX)

    @routes.get("/events", tags=["events"], responses=_ANSWERS)
    async def get_events(
        asker: _Asker,
        request: Request,
        response: Response,
        event_type: _Name = None,
        data_source_id: _Source = None,
        processed: bool | None = None,
        event_id: _Id = None,
        user_id: _Id = None,
        anonymous_id: _Id = None,
        session_id: _Id = None,
        job_id: _Id = None,
        start: _From = None,
        end: _To = None,
        limit: _Limit = 100,
        cursor: _After = None,
    ) -> list[dict[str, Any]]:
        """Events as they stand in Kafka, the last stored first; `processed` says whether Postgres has counted them.

        A page has `limit` events, or fewer if they are rare or large: as long as there is a `Link`, there may be
        more. Pages neither skip nor repeat events, whatever comes in meanwhile. What was sent twice stands there
        twice, with one `event_id`.
        """
        since, until = _span(start, end)
        wanted = Wanted(
            asker.organisation,
            event_type=event_type,
            event_id=event_id,
            user_id=user_id,
            anonymous_id=anonymous_id,
            session_id=session_id,
            job_id=job_id,
            data_source_id=data_source_id,
            since=since,
            until=until,
        )
        page = await recent.read(wanted, processed, limit, _cursor(cursor))
        return _answered(page, request, response)

    @routes.get("/predictions", tags=["events"], responses=_ANSWERS)
    async def get_predictions(
        asker: _Asker,
        request: Request,
        response: Response,
        prediction_type: _Name = None,
        model_id: _Id = None,
        data_source_id: _Source = None,
        event_id: _Id = None,
        user_id: _Id = None,
        anonymous_id: _Id = None,
        session_id: _Id = None,
        job_id: _Id = None,
        start: _From = None,
        end: _To = None,
        limit: _Limit = 100,
        cursor: _After = None,
    ) -> list[dict[str, Any]]:
        """What models have predicted, the last stored first, in pages as events are.

        Fields that clients have added to a prediction stand in `extra`.
        """
        since, until = _span(start, end)
        wanted = Wanted(
            asker.organisation,
            event_id=event_id,
            user_id=user_id,
            anonymous_id=anonymous_id,
            session_id=session_id,
            job_id=job_id,
            data_source_id=data_source_id,
            since=since,
            until=until,
            prediction_type=prediction_type,
            model_id=model_id,
        )
        page = await recent.predictions(wanted, limit, _cursor(cursor))
        return _answered(page, request, response)

    return routes


def _answered(page: Page[Shown], request: Request, response: Response) -> list[dict[str, Any]]:
    if page.cursor is not None:
        response.headers[LINK] = next_page(request, cursor=str(page.cursor))
    return [found.item for found in page.found]


def _span(start: datetime | None, end: datetime | None) -> tuple[int | None, int | None]:
    """Raises Problem 422."""
    since = None if start is None else from_datetime(start)
    until = None if end is None else from_datetime(end)
    if since is not None and until is not None and since >= until:
        raise Problem(422, "span_empty", "`from` must be before `to`")
    return since, until


def _cursor(text: str | None) -> Cursor | None:
    """Raises Problem 422."""
    if text is None:
        return None
    cursor = Cursor.parsed(text)
    if cursor is None:
        raise Problem(422, "bad_cursor", "a cursor is what the `Link` header of an answer has as such")
    return cursor

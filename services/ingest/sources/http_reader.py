"""An HTTP address that is asked again and again: every item once, page by page.

GET ─► items not seen before ─► intake ─► position (cursor, ETag, ids seen) in Postgres ─► next page, or a pause
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from services.ingest.domain.sources.connections import HttpConnection
from services.ingest.domain.sources.expression import Expression, ExpressionError
from services.ingest.domain.sources.identity import event_id_of
from services.ingest.domain.sources.seen import MAX_SEEN, Seen
from services.ingest.sources.delivery import Delivery, Message
from services.ingest.sources.far_end import bounded_body, check_status, new_session
from services.ingest.sources.reader import ReadError

MAX_BODY = 16 * 1024 * 1024
_MAX_PAGES = 10_000
"""Of one round; a list that goes in a circle ends here."""
_JITTER = 0.05
_PER_TURN = 500
"""So many items are looked at before others have their turn."""
_ITEM_BYTES = 16 * 1024
"""As large an item may be to find its id by the whole of it."""


async def read_http(connection: HttpConnection, delivery: Delivery) -> None:
    """Raises ReadError, aiohttp.ClientError, TimeoutError, and what `Delivery` raises."""
    poller = _Poller(connection, delivery, await delivery.position())
    async with new_session(connection.headers) as session:
        while True:
            await poller.round(session)
            delivery.works()
            await asyncio.sleep(connection.interval * (1 + _JITTER * random.random()))


@dataclass(frozen=True, slots=True)
class _Page:
    content: Any
    size: int
    """Bytes of the content."""
    validators: Mapping[str, str]
    """Headers that ask for this page only if it has changed."""


class _Poller:
    def __init__(self, connection: HttpConnection, delivery: Delivery, position: Mapping[str, Any]) -> None:
        self._connection = connection
        self._delivery = delivery
        known = position if position.get("url") == connection.url else {}
        self._cursor: str | None = known.get("cursor")
        self._validators: dict[str, str] = known.get("validators", {})
        self._seen = Seen(known.get("seen", ()))
        self._saved = (self._cursor, self._validators)
        self._took = False

    async def round(self, session: aiohttp.ClientSession) -> None:
        """All pages that there are now."""
        url, validators = self._first(), self._validators
        visited, items, first = {url}, 0, dict[str, str]()
        for number in range(_MAX_PAGES):
            page = await self._get(session, url, validators if number == 0 else {})
            if page is None:
                return
            if number == 0:
                first = dict(page.validators)
            cursor = self._cursor
            items += await self._take(page)
            if items > MAX_SEEN and self._connection.cursor is None:
                raise ReadError(f"the list has more than {MAX_SEEN} items: read it by a cursor")
            following = self._following(url, page)
            if following is None or following in visited:
                # Only of a single page does its ETag say that nothing is new.
                self._validators = first if number == 0 and cursor == self._cursor else {}
                await self._save()
                return
            await self._save()
            visited.add(following)
            url = following
        raise ReadError(f"more than {_MAX_PAGES} pages")

    def _first(self) -> URL:
        url = URL(self._connection.url)
        if self._cursor is None or self._connection.cursor_parameter is None:
            return url
        return url.update_query({self._connection.cursor_parameter: self._cursor})

    async def _get(self, session: aiohttp.ClientSession, url: URL, validators: Mapping[str, str]) -> _Page | None:
        """None if the page has not changed."""
        timeout = aiohttp.ClientTimeout(total=self._connection.timeout)
        async with session.get(url, headers=validators, allow_redirects=False, timeout=timeout) as answer:
            if answer.status == 304:
                return None
            check_status(answer)
            body = await bounded_body(answer, MAX_BODY)
            given = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
            fresh = {ask: answer.headers[tell] for ask, tell in given.items() if tell in answer.headers}
        try:
            return _Page(json.loads(body), len(body), fresh)
        except (ValueError, RecursionError):
            raise ReadError("the answer is no JSON") from None

    async def _take(self, page: _Page) -> int:
        """Hands over what is new of a page; returns how many items it has."""
        items_of = self._connection.items
        found = page.content if items_of is None else _found("items", items_of, page.content, page.size)
        items = found if isinstance(found, list) else [] if found is None else [found]
        ids: dict[str, None] = {}
        messages: list[Message] = []
        for number, item in enumerate(items, 1):
            event_id = self._id(item)
            if event_id not in self._seen and event_id not in ids:
                messages.append(Message(json.dumps(item, separators=(",", ":")).encode(), event_id))
            ids[event_id] = None
            if not number % _PER_TURN:
                await asyncio.sleep(0)
        await self._delivery.take(messages)
        self._took |= bool(messages)
        self._seen.meet(list(ids))
        return len(items)

    def _id(self, item: Any) -> str:
        key = self._delivery.definition.key
        id_of = self._connection.item_id
        own = None if id_of is None else _found("item_id", id_of, item, _ITEM_BYTES)
        if isinstance(own, str | int | float):
            return event_id_of(key, "id", own)
        return event_id_of(key, "content", json.dumps(item, sort_keys=True))

    def _following(self, url: URL, page: _Page) -> URL | None:
        """The next page, None at the last one. Moves the cursor, which stays at the last one that was given."""
        if self._connection.cursor is not None:
            cursor = _found("cursor", self._connection.cursor, page.content, page.size)
            if isinstance(cursor, str | int | float) and not isinstance(cursor, bool) and str(cursor):
                self._cursor = str(cursor)
                return self._first()
            return None
        if self._connection.next_link is None:
            return None
        link = _found("next_link", self._connection.next_link, page.content, page.size)
        if not isinstance(link, str) or not link:
            return None
        try:
            following = url.join(URL(link))
        except ValueError:
            raise ReadError("next_link gives no URL") from None
        if following.origin() != url.origin():
            raise ReadError("next_link leads to another host, which must not get this source's headers")
        return following

    async def _save(self) -> None:
        """If there is anything new: thousands of ids are not written every second for nothing."""
        if not self._took and self._saved == (self._cursor, self._validators):
            return
        await self._delivery.save(
            {
                "url": self._connection.url,
                "cursor": self._cursor,
                "validators": self._validators,
                "seen": self._seen.all(),
            }
        )
        self._saved, self._took = (self._cursor, self._validators), False


def _found(name: str, expression: Expression, content: Any, size: int) -> Any:
    """Raises ReadError, which names the expression."""
    try:
        return expression.search(content, size)
    except ExpressionError as error:
        raise ReadError(f"connection_config.{name}: {error}") from None

"""Where the next page of a list is."""

from __future__ import annotations

from starlette.requests import Request

from shared.paging import next_page


def _request(query: bytes) -> Request:
    headers = [(b"host", b"x")]
    return Request({"type": "http", "method": "GET", "path": "/list", "query_string": query, "headers": headers})


def test_the_next_page_is_of_the_same_list_from_another_place() -> None:
    assert next_page(_request(b"name=a%26b&cursor=1"), cursor="2") == '</list?name=a%26b&cursor=2>; rel="next"'


def test_an_empty_filter_stays_one() -> None:
    assert next_page(_request(b"user_id=&limit=5"), offset=5) == '</list?user_id=&limit=5&offset=5>; rel="next"'

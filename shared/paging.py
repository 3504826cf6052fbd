"""Lists in pages: each answer is a plain list, and says in a `Link` header where the next page is (RFC 8288)."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

LINK = "Link"
LINK_HEADER = {
    LINK: {
        "schema": {"type": "string"},
        "description": 'Where the next page is, `<…>; rel="next"`; absent on the last one',
    }
}
"""As OpenAPI describes it among an answer's headers."""


def next_page(request: Request, **changed: str | int) -> str:
    """The value of the header: the page that was asked for, with these parameters changed.

    It is relative, so that it leads back through whatever gateway the request came by. An empty parameter asks for
    something too, and is not left out.
    """
    asked = parse_qsl(request.url.query, keep_blank_values=True)
    given = [(name, value) for name, value in asked if name not in changed]
    return f'<{request.url.path}?{urlencode([*given, *changed.items()])}>; rel="next"'

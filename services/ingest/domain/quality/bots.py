"""Robots, known by what their clients call themselves (`context.userAgent`).

The list is that of crawler-user-agents (https://github.com/monperrus/crawler-user-agents). It has HTTP libraries as
well, by which servers send their events: they are no robots here.
"""

from __future__ import annotations

import re
from functools import lru_cache

import re2
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

_LIBRARIES = re.compile(
    r"(?:python-requests|python-urllib|python-httpx|aiohttp|httpx|libwww-perl|lwp-trivial|go-http-client|okhttp|ahc/"
    r"|apache-httpclient|jetty|axios|httpurlconnection|curl|wget|php-curl-class|node-fetch|got|httpie|anyevent"
    r"|customasynchttpclient)\b|python/\S+ aiohttp/",
    re.IGNORECASE,
)
"""What the name of a client begins with that is only how a server speaks HTTP."""

_LONGEST = 512
"""Characters that are looked at."""
_REMEMBERED = 8_192


class Robots:
    """Takes some 50 ms to make."""

    def __init__(self) -> None:
        options = re2.Options()
        options.never_capture = True
        options.max_mem = 32 * 1024 * 1024
        known = re2.compile("|".join(f"(?:{one['pattern']})" for one in CRAWLER_USER_AGENTS_DATA), options)

        @lru_cache(_REMEMBERED)
        def is_robot(user_agent: str) -> bool:
            return known.search(user_agent) is not None and _LIBRARIES.match(user_agent) is None

        self._is_robot = is_robot

    def knows(self, user_agent: object) -> bool:  # a property of the value, no decision
        """Whether a robot calls itself that."""
        return isinstance(user_agent, str) and self._is_robot(user_agent[:_LONGEST])

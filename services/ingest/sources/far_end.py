"""HTTP towards sources: one session for each, no cookies, no redirects, answers within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from services.ingest.sources.reader import ReadError

_CONNECT_SECONDS = 10
_CHUNK = 64 * 1024


def new_session(headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """Sends the headers, which hold secrets, with every request."""
    return aiohttp.ClientSession(
        headers={"User-Agent": "Tidegate", "Accept": "application/json", **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        trust_env=False,
    )


def check_status(answer: aiohttp.ClientResponse) -> None:
    """Raises ReadError for anything but 200."""
    if answer.status != 200:
        what = f"HTTP {answer.status} {answer.reason or ''}".strip()
        raise ReadError(what, retry_after=retry_after(answer.headers.get("Retry-After")))


def retry_after(header: str | None) -> float:
    """Seconds; 0 if nothing is asked for that can be understood."""
    if header is None:
        return 0.0
    if header.isascii() and header.isdigit():
        return float(header[:6])
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


async def bounded_body(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Raises ReadError for a body of more than `most` bytes, after decompression."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > most:
            raise ReadError(f"the answer has more than {most} bytes")
    return bytes(body)

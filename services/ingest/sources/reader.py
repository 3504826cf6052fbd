"""What a type of source has to be able to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.ingest.sources.delivery import Delivery


class ReadError(Exception):
    """The far end does not give what it should; try again, `retry_after` seconds later at the earliest."""

    def __init__(self, what: str, *, retry_after: float = 0.0) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class RefusedError(ReadError):
    """The source may not run as it is defined; whether that is still so is looked at again after a while."""

    def __init__(self, what: str) -> None:
        super().__init__(what, retry_after=60.0)


Read = Callable[[Delivery], Awaitable[None]]
"""Reads until it is cancelled or something goes wrong, which it raises; returns when the far end ends the stream."""

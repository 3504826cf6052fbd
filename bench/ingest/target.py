"""Where requests go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """`netloc` is what the Host header says."""

    address: tuple[str, int]
    netloc: str
    path: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises ValueError for what is no `http://HOST[:PORT][/PATH]`."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not http://HOST:PORT/PATH")
        return cls((parts.hostname, parts.port or 80), parts.netloc, parts.path or "/")

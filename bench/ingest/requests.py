"""Whole HTTP requests, prepared so that one more costs a replacement in its bytes."""

from __future__ import annotations

import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.ingest.forms import Form
from bench.ingest.workloads import MARK, Workload, requests

_TEMPLATES = 64


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with `MARK` in place of its number. `size` is that of its body."""

    text: bytes
    events: int
    size: int


def new_run() -> str:
    """By chance, so that no two runs have the same event ids."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))


class Requests:
    """Each has event ids of its own, if no two runs share a `run` (four characters)."""

    def __init__(
        self, *, host: str, path: str, key: str, form: Form, workload: Workload, run: str, seed: int
    ) -> None:
        self._run = run
        self._mark = MARK.encode()
        self._prepared: Sequence[Prepared] = [
            Prepared(_request(host, path, key, form, body), len(events), len(body))
            for events in requests(workload, _TEMPLATES, seed, datetime.now(UTC))
            for body in (form.body(events, is_batch=workload.is_batch),)
        ]

    def prepared(self, number: int) -> Prepared:
        return self._prepared[number % _TEMPLATES]

    def numbered(self, number: int) -> bytes:
        name = f"{self._run}{number:08d}".encode()
        return self.prepared(number).text.replace(self._mark, name)


def _request(host: str, path: str, key: str, form: Form, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-bench\r\nX-API-Key: {key}\r\n"
        f"Content-Type: {form.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

"""The gateway's admin REST interface as commands use it: where it is, with which key, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from deploy.local.state import StateDirectory, StateError, read_keys

_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 4


class RefusedError(Exception):
    """What the server, or the network, said; `status` is None if nobody answered.

    `place` is the faulty part of the definition that was sent, such as `spec.filter.op`, if it is one's fault.
    """

    def __init__(self, text: str, status: int | None = None, place: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.place = place


class AdminApi:
    """A connection to one gateway; a context manager."""

    def __init__(self, gateway: str, key: str) -> None:
        self.gateway = gateway
        self._client = httpx.Client(
            base_url=gateway, timeout=_TIMEOUT_SECONDS, headers={"Authorization": f"Bearer {key}"}
        )

    @classmethod
    def of(cls, state: StateDirectory, url: str | None, key: str | None) -> Self:
        """What is not given is taken from the local stack on `state`. Raises StateError."""
        gateway = url or state.read().gateway
        if gateway is None:
            raise StateError(
                f"no stack has run on {state.path} yet: start one with `tidegate up`, or name one with --url"
            )
        admin_key = key or read_keys(state)["admin"]
        if not (admin_key.isascii() and admin_key.isprintable()):
            raise StateError("the admin key holds characters that no key has: was it copied whole?")
        return cls(gateway, admin_key)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """A successful answer from below `/api/v1/admin/`. Raises RefusedError.

        A service that is restarting is asked again, so send only what may arrive twice.
        """
        return self.ask(method, f"/api/v1/admin/{path}", body)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """As `request`, from any path."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._client.request(method, path, json=body, params=query)
            except httpx.TransportError as error:
                raise RefusedError(f"{self.gateway} does not answer: {error}") from error
            if answer.status_code not in (502, 503) or attempt == _ATTEMPTS:
                break
            time.sleep(attempt)
        if not answer.is_success:
            place = json_object(answer).get("place")
            raise RefusedError(_problem(answer), answer.status_code, place=place if isinstance(place, str) else None)
        return answer

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[str]:
        """The lines of an answer of any length. Raises RefusedError, also if the answer breaks off."""
        try:
            with self._client.stream("GET", path, params=query) as answer:
                if not answer.is_success:
                    answer.read()
                    raise RefusedError(_problem(answer), answer.status_code)
                rest = b""
                for part in answer.iter_bytes():
                    *whole, rest = (rest + part).split(b"\n")  # httpx would end lines at U+2028 and its like too
                    yield from (line.decode() for line in whole)
                if rest:
                    yield rest.decode()
        except httpx.TransportError as error:
            raise RefusedError(f"{self.gateway} broke off: {error}") from error

    def stranger(self) -> RefusedError:
        """What to raise for a success that no service of ours gives, so that nobody believes that it happened."""
        return RefusedError(f"{self.gateway} answers, but not as Tidegate does: is that its address?")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()


def json_object(answer: httpx.Response) -> dict[str, Any]:
    """The body, empty if it is no JSON object."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _problem(answer: httpx.Response) -> str:
    body = json_object(answer)
    text = body.get("detail") or body.get("title") or answer.text[:500]
    reason = f" ({body['reason']})" if "reason" in body else ""
    return f"{answer.status_code} {text}{reason}"

"""The load, a program of its own: `python -m bench.ingest.load PLAN`, a `Plan` as JSON; the key in its environment.

One thread, one epoll, no event loop: on a small machine what the load costs is missing from what is measured. Prints
a `Told` as JSON when every request has been answered.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import httptools
import msgspec

from bench.ingest.requests import Requests

KEY_VARIABLE = "TIDEGATE_BENCH_KEY"
_BUFFER = 4 * 1024 * 1024
"""Of a socket: a whole request must fit, so that sending never waits for a slow reader."""
_ANSWER_SECONDS = 30.0


class Plan(msgspec.Struct, frozen=True):
    """`rate` requests/s on a schedule, or with 0 as many as are answered, one at a time on each connection.

    What is answered in the first `warm_up` seconds counts as sent, but for no figure.
    """

    url: str
    events: int
    connections: int
    seconds: float
    warm_up: float
    rate: float
    run: str
    seed: int


class Told(msgspec.Struct, frozen=True):
    """`accepted` counts every event answered with success since the start, the others only what was measured.

    Latencies in ms: from the moment when a request was due, or without a schedule was sent, to the end of its answer.
    """

    accepted: int
    answers: int
    refused: dict[str, int]
    seconds: float
    p50: float
    p99: float
    max: float


class _Connection:
    """One request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self.parser = httptools.HttpResponseParser(self)
        self.since = 0.0
        self.is_answered = False

    def send(self, request: bytes, since: float) -> None:
        self.since = since
        self.is_answered = False
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """The status, once the answer is complete. Raises OSError when the other side goes away."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionResetError("the server closed a connection on which a request waits")
        self.parser.feed_data(data)
        return self.parser.get_status_code() if self.is_answered else None

    def on_message_complete(self) -> None:
        self.is_answered = True


class Load:
    """Runs a plan once."""

    def __init__(self, plan: Plan, key: str) -> None:
        parts = urlsplit(plan.url)
        assert parts.hostname is not None
        self._plan = plan
        host = parts.netloc
        self._requests = Requests(
            host=host, path=parts.path or "/", key=key, events=plan.events, run=plan.run, seed=plan.seed
        )
        self._epoll = select.epoll()
        self._by_file: dict[int, _Connection] = {}
        for _ in range(plan.connections):
            connection = _Connection((parts.hostname, parts.port or 80))
            self._by_file[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        self._idle = list(self._by_file.values())
        self._sent = 0
        self._accepted = 0
        self._statuses: Counter[int] = Counter()
        self._latencies: list[float] = []

    def run(self) -> Told:
        """Raises OSError when a connection breaks or an answer does not come."""
        try:
            return self._run()
        finally:
            self._epoll.close()
            for connection in self._by_file.values():
                connection.socket.close()

    def _run(self) -> Told:
        plan, clock = self._plan, time.perf_counter
        start = clock()
        measured_from, end = start + plan.warm_up, start + plan.warm_up + plan.seconds
        while (now := clock()) < end or len(self._idle) < len(self._by_file):
            if now < end:
                self._send_due(now, start)
            elif now > end + _ANSWER_SECONDS:
                raise TimeoutError(f"{len(self._by_file) - len(self._idle)} requests were never answered")
            for file, _ in self._epoll.poll(self._patience(clock(), start, end)):
                connection = self._by_file[file]
                status = connection.receive()
                if status is None:
                    continue
                self._idle.append(connection)
                if 200 <= status < 300:
                    self._accepted += plan.events
                if measured_from <= (at := clock()) < end:
                    self._statuses[status] += 1
                    self._latencies.append(at - connection.since)
        return self._told(plan.seconds)

    def _send_due(self, now: float, start: float) -> None:
        rate = self._plan.rate
        while self._idle:
            due = start + self._sent / rate if rate else now
            if due > now:
                return
            self._idle.pop().send(self._requests.numbered(self._sent), due)
            self._sent += 1

    def _patience(self, now: float, start: float, end: float) -> float:
        """Seconds for which nothing is to be done unless an answer comes."""
        if now < end and self._idle and self._plan.rate:
            return max(0.0, min(end, start + self._sent / self._plan.rate) - now)
        return 0.1

    def _told(self, seconds: float) -> Told:
        ordered = sorted(self._latencies)
        if not ordered:
            raise TimeoutError("no request was answered in the measured time")
        return Told(
            accepted=self._accepted,
            answers=sum(n for status, n in self._statuses.items() if 200 <= status < 300),
            refused={str(status): n for status, n in self._statuses.items() if not 200 <= status < 300},
            seconds=seconds,
            p50=1e3 * nearest_rank(ordered, 0.5),
            p99=1e3 * nearest_rank(ordered, 0.99),
            max=1e3 * ordered[-1],
        )


def nearest_rank(ordered: list[float], q: float) -> float:
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]


def main(arguments: list[str], key: str) -> int:
    plan = msgspec.json.decode(arguments[0], type=Plan)
    try:
        told = Load(plan, key).run()
    except (OSError, httptools.HttpParserError) as error:
        print(f"the load on {plan.url} failed: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ[KEY_VARIABLE]))

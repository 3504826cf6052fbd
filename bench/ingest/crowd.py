"""Many connections that stay, a program of its own: `python -m bench.ingest.crowd PLAN`, a `CrowdPlan` as JSON.

Each connection sends one event, gets its answer and stays open; it sends another whenever it was idle for a while,
before servers give it up. Prints a `Crowded` as JSON when all have been answered, and another after `hold` seconds.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections import Counter, deque

import httptools
import msgspec

from bench.ingest.connection import Connection, Connections, connections
from bench.ingest.forms import FORMS
from bench.ingest.load import KEY_VARIABLE
from bench.ingest.requests import Requests
from bench.ingest.target import Target
from bench.ingest.workloads import WORKLOADS

_SPARE_FILES = 100
_IDLE_SECONDS = 2.5


class CrowdPlan(msgspec.Struct, frozen=True):
    """At most `at_once` of the `connections` wait for their first answer; all have it within `seconds`."""

    url: str
    form: str
    connections: int
    at_once: int
    seconds: float
    hold: float
    run: str
    seed: int


class Crowded(msgspec.Struct, frozen=True):
    """`open` connections, and how many events were `accepted` on all of them."""

    open: int
    accepted: int
    refused: dict[str, int]


class Crowd:
    def __init__(self, plan: CrowdPlan, key: str) -> None:
        self._plan = plan
        self._target = Target.of(plan.url)
        self._requests = Requests(
            host=self._target.netloc,
            path=self._target.path,
            key=key,
            form=FORMS[plan.form],
            workload=WORKLOADS["single"],
            run=plan.run,
            seed=plan.seed,
        )
        self._statuses: Counter[int] = Counter()
        self._idle: deque[Connection] = deque()
        """Whoever was answered first comes first; `since` is when."""
        self._gone = 0
        """How many are not among the idle for good."""
        self._sent = 0

    def run(self) -> None:
        """Raises OSError when a connection breaks or an answer does not come."""
        plan, clock = self._plan, time.perf_counter
        deadline = clock() + plan.seconds
        with connections(self._target.address) as opened:
            greeted = 0
            while greeted < plan.connections:
                if clock() > deadline:
                    raise TimeoutError(
                        f"{greeted:,} of {plan.connections:,} connections had an answer in {plan.seconds:g} s"
                    )
                while len(opened) < plan.connections and len(opened) - greeted < plan.at_once:
                    self._send(opened.open())
                greeted += self._turn(opened)
            self._say(opened)
            end = clock() + plan.hold
            while clock() < end:
                self._turn(opened)
            while len(self._idle) + self._gone < len(opened) and clock() < end + plan.seconds:
                self._receive(opened)
            self._say(opened)

    def _turn(self, opened: Connections) -> int:
        """Who was idle for long sends again. How many were answered for the first time."""
        while self._idle and time.perf_counter() - self._idle[0].since > _IDLE_SECONDS:
            connection = self._idle.popleft()
            if connection.is_closed:
                self._gone += 1
            else:
                self._send(connection)
        return self._receive(opened)

    def _send(self, connection: Connection) -> None:
        again = connection.number + 1 if connection.since else 0
        connection.send(self._requests.numbered(self._sent), again, time.perf_counter())
        self._sent += 1

    def _receive(self, opened: Connections) -> int:
        first = 0
        for connection in opened.answered(0.05):
            self._statuses[connection.status] += 1
            first += connection.number == 0
            connection.since = time.perf_counter()
            self._idle.append(connection)
        return first

    def _say(self, opened: Connections) -> None:
        told = Crowded(
            open=len(opened) - opened.closed,
            accepted=sum(n for status, n in self._statuses.items() if 200 <= status < 300),
            refused={str(status): n for status, n in self._statuses.items() if not 200 <= status < 300},
        )
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.buffer.flush()


def allow_files(count: int) -> bool:
    """Whether this process, and what it starts, may have that many open, besides a few of its own."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < count + _SPARE_FILES:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return True


def main(arguments: list[str], key: str) -> int:
    plan = msgspec.json.decode(arguments[0], type=CrowdPlan)
    allow_files(plan.connections)
    try:
        Crowd(plan, key).run()
    except (OSError, httptools.HttpParserError) as error:
        print(f"{plan.connections:,} connections to {plan.url} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ[KEY_VARIABLE]))

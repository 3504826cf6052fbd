"""The load, a program of its own: `python -m bench.ingest.load PLAN`, a `Plan` as JSON; the key in its environment.

One thread, one epoll, no event loop: on a small machine what the load costs is missing from what is measured. Prints
a `Told` as JSON after each phase, when every request has been answered. All phases use the same connections.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import httptools
import msgspec

from bench.ingest.connection import Connection, Connections, connections
from bench.ingest.forms import FORMS
from bench.ingest.requests import Prepared, Requests
from bench.ingest.target import Target
from bench.ingest.workloads import WORKLOADS

KEY_VARIABLE = "TIDEGATE_BENCH_KEY"
_ANSWER_SECONDS = 60.0


class Phase(msgspec.Struct, frozen=True):
    """Seconds in which requests leave: `rate` of them a second, on a schedule, or with 0 as many as are answered.

    `share` above 0 asks for that part of the rate that the last phase without a schedule had.
    """

    seconds: float
    rate: float = 0.0
    share: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """`form` and `workload` by name. One request at a time on each connection."""

    url: str
    form: str
    workload: str
    phases: Sequence[Phase]
    run: str
    seed: int


class Told(msgspec.Struct, frozen=True):
    """Of a phase: `accepted` counts every event answered with success, the others what was answered in its seconds.

    `events` and `size` (bytes of bodies) are those of the `answers` with success. Latencies in ms: from the moment
    when a request was due, or without a schedule was sent, to the end of its answer; 0 if there was none.
    `cpu_seconds`: the load's own.
    """

    accepted: int
    answers: int
    events: int
    size: int
    refused: dict[str, int]
    seconds: float
    cpu_seconds: float
    p50: float
    p99: float
    max: float


class _Count:
    """What was answered."""

    def __init__(self) -> None:
        self.events = 0
        self._size = 0
        self._statuses: Counter[int] = Counter()
        self.latencies: list[float] = []

    def add(self, status: int, request: Prepared, latency: float) -> None:
        self._statuses[status] += 1
        self.latencies.append(latency)
        if 200 <= status < 300:
            self.events += request.events
            self._size += request.size

    def told(self, seconds: float, cpu_seconds: float, late: int = 0) -> Told:
        """`late` events were accepted after the time."""
        ordered = sorted(self.latencies) or [0.0]
        return Told(
            accepted=self.events + late,
            answers=sum(n for status, n in self._statuses.items() if 200 <= status < 300),
            events=self.events,
            size=self._size,
            refused={str(status): n for status, n in self._statuses.items() if not 200 <= status < 300},
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            p50=1e3 * nearest_rank(ordered, 0.5),
            p99=1e3 * nearest_rank(ordered, 0.99),
            max=1e3 * ordered[-1],
        )


class Load:
    """Runs a plan once."""

    def __init__(self, plan: Plan, key: str) -> None:
        self._plan = plan
        self._target = Target.of(plan.url)
        self._workload = WORKLOADS[plan.workload]
        self._requests = Requests(
            host=self._target.netloc,
            path=self._target.path,
            key=key,
            form=FORMS[plan.form],
            workload=self._workload,
            run=plan.run,
            seed=plan.seed,
        )
        self._idle: list[Connection] = []
        self._sent = 0

    def run(self) -> Iterator[Told]:
        """What came of each phase; first of one in which every connection sends once.

        A server may owe a connection more than the next ones, so that greeting is no part of any rate.
        Raises OSError when a connection breaks or an answer does not come.
        """
        peak = 0.0
        with connections(self._target.address) as opened:
            self._idle = [opened.open() for _ in range(self._workload.connections)]
            yield self._greeting(opened)
            for phase in self._plan.phases:
                rate = phase.rate or phase.share * peak
                told = self._phase(opened, phase.seconds, rate)
                if not rate:
                    peak = told.answers / told.seconds
                yield told

    def _greeting(self, opened: Connections) -> Told:
        count, began = _Count(), time.perf_counter()
        while self._idle:
            self._send(began)
        self._wait(opened, count, began + _ANSWER_SECONDS)
        return count.told(time.perf_counter() - began, 0.0)

    def _phase(self, opened: Connections, seconds: float, rate: float) -> Told:
        clock, count = time.perf_counter, _Count()
        cpu, start, first = time.process_time(), clock(), self._sent
        end = start + seconds
        while (now := clock()) < end:
            while self._idle:
                due = start + (self._sent - first) / rate if rate else now
                if due > now:
                    break
                self._send(due)
            next_due = start + (self._sent - first) / rate if rate and self._idle else end
            for connection in opened.answered(max(0.0, min(end, next_due) - clock())):
                self._idle.append(connection)
                count.add(connection.status, self._requests.prepared(connection.number), clock() - connection.since)
        cpu = time.process_time() - cpu
        late = _Count()
        self._wait(opened, late, end + _ANSWER_SECONDS)
        if rate:  # what was due in time has a latency, however late its answer
            count.latencies += late.latencies
        return count.told(seconds, cpu, late.events)

    def _send(self, due: float) -> None:
        self._idle.pop().send(self._requests.numbered(self._sent), self._sent, due)
        self._sent += 1

    def _wait(self, opened: Connections, count: _Count, deadline: float) -> None:
        """Until nothing is owed."""
        while missing := len(opened) - len(self._idle):
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{missing} requests were not answered in {_ANSWER_SECONDS:g} s")
            for connection in opened.answered(0.1):
                self._idle.append(connection)
                latency = time.perf_counter() - connection.since
                count.add(connection.status, self._requests.prepared(connection.number), latency)


def nearest_rank(ordered: list[float], q: float) -> float:
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]


def main(arguments: list[str], key: str) -> int:
    plan = msgspec.json.decode(arguments[0], type=Plan)
    try:
        for told in Load(plan, key).run():
            sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
            sys.stdout.buffer.flush()
    except (OSError, httptools.HttpParserError) as error:
        print(f"the load on {plan.url} failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ[KEY_VARIABLE]))

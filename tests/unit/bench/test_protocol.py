"""What a peer prints is what the runner reads."""

from __future__ import annotations

import msgspec
import pytest

from bench.aggregator.peers.faust_program import Meter
from bench.aggregator.peers.protocol import (
    Done,
    GroupTotal,
    Line,
    Progress,
    Started,
    Summary,
    Task,
    read_line,
    task_from,
    tell,
)
from bench.aggregator.peers.windows import Window, totals_of

TOTAL = GroupTotal("search", "control", Summary(1, 5, 5, 5))


@pytest.mark.parametrize(
    "line", [Started(), Progress(7), Done(9, 1.5), Done(1, 2.5, (TOTAL,)), Done(1, 2.5, again=True)]
)
def test_every_line_survives_the_pipe(line: Line, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    tell(line)
    assert read_line(capfdbinary.readouterr().out) == line


def test_a_stray_line_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_line(b"hello\n")


def test_a_task_survives_the_command_line() -> None:
    task = Task("localhost:9092", "events.v1", 4, 100)
    assert task_from(list(task.arguments())) == task


def test_the_meter_times_from_the_first_event_and_says_so_once(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    meter = Meter(3)
    for _ in range(6):
        meter.processed()

    started, done = map(read_line, capfdbinary.readouterr().out.splitlines())
    assert started == Started()
    assert isinstance(done, Done)
    assert done.events == 3
    assert done.seconds >= 0


def test_the_meter_tells_the_totals_with_its_last_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    window = Window()
    window.add(5)
    meter = Meter(1, lambda: totals_of([((1, "search", "control"), window)]))
    meter.processed()

    *_, done = map(read_line, capfdbinary.readouterr().out.splitlines())
    assert isinstance(done, Done)
    assert done.totals == (TOTAL,)


def test_totals_add_up_the_minutes_of_each_group() -> None:
    def window(*durations: int) -> Window:
        made = Window()
        for duration in durations:
            made.add(duration)
        return made

    totals = totals_of(
        [
            ((1, "purchase", "control"), window(3, 4)),
            ((2, "purchase", "control"), window(9)),
            ((1, "search", "control"), window(1)),
        ]
    )
    assert totals == (
        GroupTotal("purchase", "control", Summary(3, 16, 3, 9)),
        GroupTotal("search", "control", Summary(1, 1, 1, 1)),
    )

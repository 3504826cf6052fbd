"""What a peer prints is what the runner reads."""

from __future__ import annotations

import msgspec
import pytest

from bench.aggregator.peers.faust_program import Meter
from bench.aggregator.peers.plain_faust import Histogram, Summary
from bench.aggregator.peers.protocol import Done, Line, Progress, Started, Task, read_line, task_from, tell


@pytest.mark.parametrize("line", [Started(), Progress(7), Done(9, 1.5)])
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


def test_a_summary_knows_count_sum_and_extremes() -> None:
    summary = Summary()
    for value in (2.5, 1.0, 4.0):
        summary.add(value)
    assert (summary.n, summary.sum, summary.min, summary.max) == (3, 7.5, 1.0, 4.0)


def test_a_histogram_puts_near_values_together_and_far_ones_apart() -> None:
    histogram = Histogram()
    for value in (1_000, 1_001, 2_000):
        histogram.add(value)
    assert (histogram.n, histogram.sum) == (3, 4_001)
    assert sorted(histogram.buckets.values()) == [1, 2]

"""The overhead of telemetry: calls as figures, and a recording process that reports what was delivered."""

from __future__ import annotations

from bench.telemetry.figures import Overhead, Round


def test_calls_become_microseconds_by_rate() -> None:
    found = Overhead([Round(0, [1_000, 2_000, 3_000, 10_000], 0.000_1, 4), Round(100, [5_000], 0.000_02, 1)])
    figures = {(figure.workload, figure.metric): (figure.value, figure.unit) for figure in found.figures()}
    assert figures["burst", "call_p50_us"] == (2.0, "µs")
    assert figures["burst", "call_max_us"] == (10.0, "µs")
    assert figures["burst", "call_mean_us"] == (4.0, "µs")
    assert figures["burst", "cpu_per_event"] == (25.0, "µs")
    assert figures["burst", "accepted"] == (4, "events")
    assert figures["100/s", "call_p99_us"] == (5.0, "µs")
    assert found.table("telemetry").row_count == 2

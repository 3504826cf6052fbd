"""A program that speaks the protocol is heard to its last run, and each run is charged with what it alone used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.aggregator.peers.protocol import GroupTotal, Summary
from bench.aggregator.systems import follow
from bench.processes import measured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

TWO_RUNS = """
import threading, time
from bench.aggregator.peers.protocol import Done, GroupTotal, Progress, Started, Summary, tell
total = GroupTotal("search", "control", Summary(1, 5, 5, 5))
tell(Started())
tell(Progress(50))
until = time.process_time() + 0.3
while time.process_time() < until: pass
tell(Done(100, 2.0, (total,), again=True))
tell(Started())
tell(Done(300, 1.5))
threading.Event().wait()
"""
ROOT = Path(__file__).parents[3]


async def test_a_program_that_runs_again_gives_a_cold_and_a_warm_run(tmp_path: Path) -> None:
    told: list[int] = []
    environment = {"PYTHONPATH": str(ROOT)}
    async with measured("twice", ("-c", TWO_RUNS), core=None, env=environment, directory=tmp_path) as program:
        cold, warm = await follow(program, told.append)

    assert (cold.events, cold.seconds, cold.warm_up) == (100, 2.0, 0)
    assert cold.totals == (GroupTotal("search", "control", Summary(1, 5, 5, 5)),)
    assert (warm.events, warm.seconds, warm.warm_up) == (300, 1.5, 100)
    assert cold.cpu_seconds >= 0.2
    assert warm.cpu_seconds < 0.2
    assert told == [50, 100, 300]

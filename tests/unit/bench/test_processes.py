"""A program under measurement runs on its core, is heard, is charged for what it used, and is always ended."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bench.processes import BenchError, measured, parse_usage, spare_core
from deploy.local.children import identify
from tests.waiting import eventually

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and binds processes to cores")

FOR_EVER = "import threading; threading.Event().wait()"


def test_usage_counts_user_and_system_time_and_the_peak() -> None:
    status = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  512 kB\nVmRSS:\t  100 kB\n"
    stat = "42 (a) name (b) S 1 2 3 4 5 6 7 8 9 10 150 50 7 7 20 0 4 0 12345"

    usage = parse_usage(status, stat, 100)
    assert usage.cpu_seconds == 2.0
    assert usage.peak_memory == 512 * 1024


@needs_linux
async def test_a_program_runs_on_the_core_it_is_given(tmp_path: Path) -> None:
    core = spare_core()
    assert core is not None
    code = "import os; print(sorted(os.sched_getaffinity(0)), flush=True); " + FOR_EVER
    async with measured("pinned", ("-c", code), core=core, env={}, directory=tmp_path) as program:
        assert await anext(program.lines()) == f"[{core}]\n".encode()


@needs_linux
async def test_memory_once_taken_stays_in_the_peak(tmp_path: Path) -> None:
    code = (
        "x = bytearray(80_000_000); x[::4096] = b'1' * len(x[::4096]); del x; print('ready', flush=True); " + FOR_EVER
    )
    async with measured("hungry", ("-c", code), core=None, env={}, directory=tmp_path) as program:
        await anext(program.lines())
        usage = program.usage()
    assert usage.peak_memory > 80_000_000
    assert usage.cpu_seconds >= 0


async def test_a_program_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such luck')"
    async with measured("mortal", ("-c", code), core=None, env={}, directory=tmp_path) as program:
        with pytest.raises(BenchError, match=r"(?s)mortal ended with 1.*no such luck"):
            await anext(program.lines())


@needs_linux
async def test_leaving_the_block_ends_the_program_and_its_children(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-c', {FOR_EVER!r}]); "
        "print(os.getpid(), child.pid, flush=True); " + FOR_EVER
    )
    async with measured("parent", ("-c", code), core=None, env={}, directory=tmp_path) as program:
        pids = [int(pid) for pid in (await anext(program.lines())).split()]
        assert all(identify(pid) is not None for pid in pids)

    async def gone() -> bool:
        return all(identify(pid) is None for pid in pids)

    await eventually(gone, "parent and child have ended")


async def test_a_program_gets_its_variables_and_keeps_its_log(tmp_path: Path) -> None:
    code = "import os, sys; print('seen', file=sys.stderr); print(os.environ['BENCH_TEST'], flush=True); " + FOR_EVER
    async with measured("named", ("-c", code), core=None, env={"BENCH_TEST": "x"}, directory=tmp_path) as program:
        assert await anext(program.lines()) == b"x\n"
    assert "seen" in (tmp_path / "named.log").read_text()
    assert "BENCH_TEST" not in os.environ


async def test_an_interrupted_measurement_ends_its_program(tmp_path: Path) -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def measure() -> None:
        code = "import os; print(os.getpid(), flush=True); " + FOR_EVER
        async with measured("cut", ("-c", code), core=None, env={}, directory=tmp_path) as program:
            started.set_result(int(await anext(program.lines())))
            await asyncio.Event().wait()

    task = asyncio.create_task(measure())
    pid = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert identify(pid) is None

"""The supervisor with real, tiny processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.children import identify
from deploy.local.process import Job, Process, ProcessState
from deploy.local.restarts import RestartPolicy
from deploy.local.supervisor import StartError, Supervisor

POLICY = RestartPolicy(first_delay=0.01, longest_delay=0.05, attempts=3)


def process(directory: Path, name: str, script: str = "", depends_on: tuple[str, ...] = ()) -> Process:
    """Says when it started and was asked to end, in `events`; ready once its own file exists."""
    ready, events = directory / f"{name}.ready", directory / "events"
    source = f"""
import pathlib, signal, sys, time
def note(text):
    with open({str(events)!r}, "a") as file:
        file.write(text + "\\n")
def end(*_):
    note("end {name}")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
{script}
note("start {name}")
pathlib.Path({str(ready)!r}).touch()
while True:
    time.sleep(60)
"""

    async def is_ready() -> bool:
        return ready.exists()

    argv = (sys.executable, "-I", "-S", "-c", source)
    return Process(name=name, argv=argv, check=is_ready, depends_on=depends_on, stop_timeout=2.0)


def events(directory: Path) -> list[str]:
    return (directory / "events").read_text(encoding="utf-8").splitlines()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[None]:
    try:
        await supervisor.start()
        yield
    finally:
        await supervisor.stop()


async def test_what_depends_on_something_starts_after_it_and_ends_before_it(tmp_path: Path) -> None:
    ran: list[str] = []

    async def migrate() -> None:
        ran.append("migrate")
        assert events(tmp_path) == ["start database"]

    supervisor = Supervisor(
        [
            process(tmp_path, "database"),
            Job("migrations", migrate, depends_on=("database",)),
            process(tmp_path, "service", depends_on=("migrations",)),
        ],
        tmp_path,
    )

    async with running(supervisor):
        assert [s.state for s in supervisor.statuses()] == [ProcessState.READY, ProcessState.READY]
    assert ran == ["migrate"]
    assert events(tmp_path) == ["start database", "start service", "end service", "end database"]
    assert {s.state for s in supervisor.statuses()} == {ProcessState.STOPPED}


async def test_a_killed_process_is_restarted_and_its_restarts_are_counted(tmp_path: Path) -> None:
    supervisor = Supervisor([process(tmp_path, "service")], tmp_path, policy=POLICY)

    async with running(supervisor):
        for deaths in (1, 2):
            pid = supervisor.statuses()[0].pid
            assert pid is not None
            (tmp_path / "service.ready").unlink()
            os.kill(pid, signal.SIGKILL)
            await until(
                lambda deaths=deaths: (
                    supervisor.statuses()[0].restarts == deaths  # type: ignore[misc]
                    and supervisor.statuses()[0].state is ProcessState.READY
                )
            )
            assert supervisor.statuses()[0].pid != pid


async def test_a_process_that_cannot_start_fails_the_start_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = process(tmp_path, "broken", script="sys.exit('the disk is full')")
    supervisor = Supervisor([broken, process(tmp_path, "after", depends_on=("broken",))], tmp_path, policy=POLICY)
    with pytest.raises(StartError, match=r"broken: ended with exit code 1[\s\S]*the disk is full"):
        await supervisor.start()
    await supervisor.stop()
    assert not (tmp_path / "events").exists()


async def test_a_failing_job_fails_the_start_and_what_ran_is_ended(tmp_path: Path) -> None:
    async def fail() -> None:
        raise ValueError("column missing")

    supervisor = Supervisor([process(tmp_path, "database"), Job("migrations", fail, ("database",))], tmp_path)
    with pytest.raises(StartError, match="migrations: column missing"):
        await supervisor.start()
    await supervisor.stop()
    assert events(tmp_path) == ["start database", "end database"]


async def test_a_process_that_never_becomes_ready_fails_the_start_by_name(tmp_path: Path) -> None:
    slow = process(tmp_path, "slow", script="time.sleep(60)")
    supervisor = Supervisor([slow], tmp_path, start_timeout=0.3)
    with pytest.raises(StartError, match="not ready after 0 s: slow"):
        await supervisor.start()
    await supervisor.stop()
    assert supervisor.identities() == {}


async def test_a_process_that_ignores_the_request_to_end_is_killed_with_its_children(tmp_path: Path) -> None:
    child_file = tmp_path / "child"
    stubborn = process(
        tmp_path,
        "stubborn",
        script=f"""
import subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
pathlib.Path({str(child_file)!r}).write_text(str(child.pid))
""",
    )
    supervisor = Supervisor([stubborn], tmp_path)
    await supervisor.start()
    pid, child = supervisor.statuses()[0].pid, int(child_file.read_text(encoding="utf-8"))
    assert pid is not None
    await supervisor.stop()
    assert identify(pid) is None
    await until(lambda: identify(child) is None)


async def test_a_process_that_stops_answering_is_shown_as_unready(tmp_path: Path) -> None:
    supervisor = Supervisor([process(tmp_path, "service")], tmp_path)

    async with running(supervisor):
        (tmp_path / "service.ready").unlink()
        await until(lambda: supervisor.statuses()[0].state is ProcessState.UNREADY)
        (tmp_path / "service.ready").touch()
        await until(lambda: supervisor.statuses()[0].state is ProcessState.READY)


async def test_a_check_that_swallows_its_cancellation_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    service, asked = process(tmp_path, "service"), asyncio.Event()

    async def swallow() -> bool:
        if service_is_ready := await service.check():
            asked.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        return service_is_ready

    supervisor = Supervisor([replace(service, check=swallow)], tmp_path)
    starting = asyncio.create_task(supervisor.start())
    await asked.wait()
    async with asyncio.timeout(15):
        await supervisor.stop()
    await asyncio.gather(starting, return_exceptions=True)
    assert supervisor.statuses()[0].state is ProcessState.STOPPED


def test_a_dependency_that_does_not_stand_before_its_dependant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first depends on second"):
        Supervisor([process(tmp_path, "first", depends_on=("second",)), process(tmp_path, "second")], tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
async def test_children_end_within_five_seconds_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    source = f"""
import asyncio, sys
from pathlib import Path
from tests.unit.deploy.test_supervisor import Supervisor, process
async def main():
    supervisor = Supervisor([process(Path({str(tmp_path)!r}), "service")], Path({str(tmp_path)!r}))
    await supervisor.start()
    print(supervisor.statuses()[0].pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert identify(child) is not None
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        await until(lambda: identify(child) is None)

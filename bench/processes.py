"""A program under measurement: on a core of its own, with what it used of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.children import command_of, identify, kill_group, log_tail
from deploy.local.process import OWN_ACCOUNT

_PIN = Path(__file__).with_name("pin.py")
_STOP_SECONDS = 15.0


class BenchError(Exception):
    """The benchmark gives no figures; the message is for whoever ran it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it began: CPU seconds of all its threads, and memory in bytes, most and now."""

    cpu_seconds: float
    peak_memory: int
    memory: int = 0


def spare_core() -> int | None:
    """The core that programs under measurement get; None where the system cannot bind a process to a core."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None


class Measured:
    """A running program. `name` is for messages, `log` is what it says on standard error."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self._name = name
        self._child = child
        self._log = log

    async def lines(self) -> AsyncIterator[bytes]:
        """Its standard output, as it comes. Raises BenchError when the program ends before it is told to."""
        assert self._child.stdout is not None
        while line := await self._child.stdout.readline():
            yield line
        raise await self.death()

    async def death(self) -> BenchError:
        """What to raise about a program that ended by itself; waits for its end."""
        return self.failure(f"ended with {await self._child.wait()}")

    def failure(self, what: str) -> BenchError:
        """What to raise about the program, with its last words: its log goes with the run."""
        words = log_tail(self._log)
        return BenchError(f"{self._name} {what}." + (f" It said last:\n{words}" if words else ""))

    @property
    def has_ended(self) -> bool:
        return self._child.returncode is not None

    def usage(self) -> Usage:
        """Raises BenchError if the program has ended."""
        try:
            return _usage_of(self._child.pid)
        except OSError as error:
            raise BenchError(f"the system does not say what {self._name} uses: {error}") from error

    def usage_of_all(self) -> Usage:
        """As `usage`, with all that came from it and are still there: their CPU time and memory added up."""
        found = [self.usage(), *map(_usage_of_child, _descendants_of(self._child.pid))]
        return Usage(
            sum(one.cpu_seconds for one in found),
            sum(one.peak_memory for one in found),
            sum(one.memory for one in found),
        )

    async def stop(self) -> None:
        """Ends it, if need be by force, with everything that it started."""
        identity = identify(self._child.pid)
        with suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                # Not `wait`: that also waits for the output, which a child of the program may hold open.
                while self._child.returncode is None:
                    await asyncio.sleep(0.02)
        if identity is not None:
            kill_group(identity)
        await self._child.wait()


@asynccontextmanager
async def measured(
    name: str,
    argv: Sequence[str],
    *,
    core: int | None,
    env: Mapping[str, str],
    directory: Path,
    program: str = sys.executable,
    cwd: Path | None = None,
    is_heard: bool = True,
) -> AsyncIterator[Measured]:
    """Runs `program` with `argv` in `cwd` or `directory`, on `core`, for as long as the block lasts.

    `directory` takes what it says on standard error, and on standard output what nobody is going to hear.
    """
    command = (program, *argv)
    if core is not None:
        command = (sys.executable, "-I", "-S", str(_PIN), str(core), *command)
    log = directory / f"{name}.log"
    with log.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *command_of(command, OWN_ACCOUNT, signal.SIGKILL),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if is_heard else output,
            stderr=output,
            cwd=cwd or directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", **env},
            start_new_session=True,
        )
    process = Measured(name, child, log)
    try:
        yield process
    finally:
        await process.stop()


def _usage_of(pid: int) -> Usage:
    """Raises OSError for a process that has ended."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return parse_usage(status, stat, os.sysconf("SC_CLK_TCK"))


def _usage_of_child(pid: int) -> Usage:
    try:
        return _usage_of(pid)
    except OSError:  # it has just ended
        return Usage(0.0, 0)


def _descendants_of(pid: int) -> list[int]:
    """By `/proc/PID/task`: every thread lists the children that it started."""
    found: list[int] = []
    with suppress(OSError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, task.read_text(encoding="ascii").split())
    return found + [one for child in found for one in _descendants_of(child)]


def parse_usage(status: str, stat: str, ticks_per_second: int) -> Usage:
    """From the texts of Linux's `/proc/PID/status` and `/proc/PID/stat`.

    Raises ProcessLookupError when they are of a process that has ended and is only still listed.
    """
    sizes = {name: text for name, _, text in (line.partition(":") for line in status.splitlines())}
    if "VmHWM" not in sizes:
        raise ProcessLookupError("it has ended")
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    user, system = int(fields[11]), int(fields[12])
    peak, now = (int(sizes[name].split()[0]) * 1024 for name in ("VmHWM", "VmRSS"))
    return Usage((user + system) / ticks_per_second, peak, now)

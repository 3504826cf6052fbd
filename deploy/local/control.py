"""Looks at, and ends, a stack that another process supervises."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from enum import StrEnum

from deploy.local import children
from deploy.local.children import Identity
from deploy.local.process import ProcessState, ProcessStatus
from deploy.local.state import Record, StateDirectory, StateError

PATIENCE = 75.0
"""Longer than a supervisor may take for what it stops one after the other: services, then Kafka and Postgres."""


class Ended(StrEnum):
    """How `take_down` found and left the stack."""

    NOTHING_RUNNING = "nothing was running"
    STOPPED = "stopped"
    KILLED = "did not stop in time and was killed"
    CLEARED = "the supervisor was gone already; what it had left was killed"


def look(state: StateDirectory) -> list[ProcessStatus]:
    """Every process as last recorded, or as stopped when no supervisor lives. Raises `StateError`."""
    record, running = state.read(), state.is_locked()
    return [
        ProcessStatus(
            name=process.name,
            pid=process.pid if running else None,
            port=process.port,
            state=process.state if running else ProcessState.STOPPED,
            restarts=process.restarts,
            detail=process.detail if running else "",
        )
        for process in record.processes
    ]


async def take_down(state: StateDirectory, *, patience: float = PATIENCE) -> Ended:
    """Asks the supervisor to stop everything and returns when nothing is left; kills it after `patience` seconds.

    Raises `StateError` when a supervisor runs that this user may not signal, or that left no record.
    """
    if not state.is_locked():
        left = _living(state.read())
        await children.end_left_overs(left, patience=0.0)
        return Ended.CLEARED if left else Ended.NOTHING_RUNNING
    supervisor = await _supervisor(state)
    try:
        os.kill(supervisor.pid, signal.SIGTERM)
    except PermissionError as error:
        raise StateError(f"the stack on {state.path} belongs to another user (pid {supervisor.pid})") from error
    except ProcessLookupError:
        pass
    if await _unlocked(state, patience):
        return Ended.STOPPED
    left = _living(state.read())
    with suppress(ProcessLookupError):
        os.kill(supervisor.pid, signal.SIGKILL)
    await children.end_left_overs(left)
    return Ended.KILLED


async def _supervisor(state: StateDirectory) -> Identity:
    """The lock is taken a moment before the record is written, hence the patience."""
    for _ in range(50):
        recorded = state.read().supervisor
        if recorded is not None and recorded.identity is not None and children.is_alive(recorded.identity):
            return recorded.identity
        if not state.is_locked():
            break
        await asyncio.sleep(0.1)
    raise StateError(f"{state.path} is held by a process that left no record of itself; end it, then try again")


async def _unlocked(state: StateDirectory, patience: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while loop.time() < deadline:
        if not state.is_locked():
            return True
        await asyncio.sleep(0.05)
    return False


def _living(record: Record) -> list[Identity]:
    identities = [process.identity for process in record.processes]
    return [identity for identity in identities if identity is not None and children.is_alive(identity)]

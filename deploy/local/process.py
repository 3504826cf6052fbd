"""What the supervisor runs: long-lived processes and one-off jobs, as frozen values."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

Check = Callable[[], Awaitable[bool]]
"""Asks a process once whether it can work; False or an `OSError` mean not yet."""


class ProcessState(StrEnum):
    """A process's life: waiting → starting → ready ⇄ unready → stopping → stopped, and restarting after a death."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Account:
    """Under whose name a program runs: ours, nobody in a user namespace of its own, or another user id."""

    mode: Literal["own", "unprivileged"] = "own"
    user: int | None = None


OWN_ACCOUNT = Account()


@dataclass(frozen=True, slots=True)
class Process:
    """One supervised process.

    `env` is laid over the supervisor's own environment. `stop_signal` asks it to end, `orphan_signal` is what the
    kernel sends it when the supervisor itself dies; after `stop_timeout` seconds it is killed. It starts once
    everything in `depends_on` (processes and jobs, by name) is ready.
    """

    name: str
    argv: tuple[str, ...]
    check: Check
    port: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    stop_timeout: float = 10.0
    cwd: Path | None = None
    account: Account = OWN_ACCOUNT


@dataclass(frozen=True, slots=True)
class Job:
    """Work done once per start, such as migrations; whatever depends on it waits for its end."""

    name: str
    run: Callable[[], Awaitable[None]]
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A snapshot of one process, as `tidegate status` shows it."""

    name: str
    pid: int | None
    port: int | None
    state: ProcessState
    restarts: int = 0
    detail: str = ""

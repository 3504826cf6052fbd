"""The processes that faults befall: those of the stack, and our workers."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.local.process import ProcessState
from deploy.local.stack import LocalStack
from deploy.local.supervisor import Supervisor


class Victim(Protocol):
    """A supervised process."""

    @property
    def name(self) -> str: ...

    def pid(self) -> int | None:
        """None while it is not running."""

    def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class OfStack:
    """A process of the stack, as its record shows it."""

    stack: LocalStack
    name: str

    def pid(self) -> int | None:
        return next(p.pid for p in self.stack.state.read().processes if p.name == self.name)

    def is_ready(self) -> bool:
        found = next(p for p in self.stack.state.read().processes if p.name == self.name)
        return found.state is ProcessState.READY


@dataclass(frozen=True, slots=True)
class OfSupervisor:
    """The only process of a supervisor."""

    supervisor: Supervisor

    @property
    def name(self) -> str:
        return self.supervisor.statuses()[0].name

    def pid(self) -> int | None:
        return self.supervisor.statuses()[0].pid

    def is_ready(self) -> bool:
        return self.supervisor.statuses()[0].state is ProcessState.READY


def send(victim: Victim, how: signal.Signals) -> int:
    """Signals the process alone; returns its id."""
    pid = victim.pid()
    assert pid is not None, f"{victim.name} is not running"
    os.kill(pid, how)
    return pid


def family(pid: int) -> list[int]:
    """The process and everything that it started, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it has just ended
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def resident_bytes(pid: int) -> int:
    """Memory in use by a process; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)

"""Starting and ending operating-system processes so that none outlives us."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.process import OWN_ACCOUNT, Account, Process

LAUNCHER = Path(__file__).with_name("launch.py")
_LOG_LIMIT = 10_000_000


class ProgramError(Exception):
    """A program that should have succeeded did not; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A process id with its start time, so that a reused id is never mistaken for ours."""

    pid: int
    started: str


def identify(pid: int) -> Identity | None:
    """None when no such process lives; a zombie counts as dead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _identify_without_proc(pid)
    except (ProcessLookupError, PermissionError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in ("Z", "X") else Identity(pid, fields[19])


def is_alive(identity: Identity) -> bool:
    return identify(identity.pid) == identity


def command_of(argv: Sequence[str], account: Account, orphan_signal: signal.Signals) -> tuple[str, ...]:
    """`argv` behind the launcher that ties it to this process and gives it its account."""
    parent = str(os.getpid())
    return (sys.executable, "-I", "-S", str(LAUNCHER), str(int(orphan_signal)), parent, account.mode, *argv)


async def spawn(process: Process, log: Path) -> asyncio.subprocess.Process:
    """Starts it in its own session, with its output appended to `log`. Raises `OSError`."""
    user = process.account.user
    other_user: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command_of(process.argv, process.account, process.orphan_signal),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=process.cwd,
            env={**os.environ, **process.env},
            start_new_session=True,
            **other_user,
        )


async def run_to_end(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    account: Account = OWN_ACCOUNT,
    stdin: bytes = b"",
    timeout: float = 120.0,
) -> None:
    """Runs a program that ends by itself, with exactly `env`. Raises `ProgramError` with its output if it fails."""
    user = account.user
    other_user: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    child = await asyncio.create_subprocess_exec(
        *command_of(argv, account, signal.SIGKILL),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
        **other_user,
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(stdin), timeout)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
        if isinstance(error, TimeoutError):
            raise ProgramError(f"{Path(argv[0]).name} did not end within {timeout:.0f} s") from error
        raise
    if child.returncode != 0:
        text = output.decode("utf-8", errors="replace").strip()
        raise ProgramError(f"{Path(argv[0]).name} failed with exit code {child.returncode}:\n{text[-2000:]}")


def rotate(log: Path) -> None:
    """Keeps one older log of bounded size; only called while nobody writes."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            log.replace(log.with_suffix(log.suffix + ".1"))


def log_size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def log_tail(log: Path, since: int = 0, lines: int = 20) -> str:
    """The last lines of a log from byte `since` on, for messages; empty when there is none."""
    if log_size(log) <= since:
        return ""
    with log.open("rb") as file:
        file.seek(max(since, log_size(log) - 16_384))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def ask_to_end(leader: Identity, how: signal.Signals) -> None:
    """Signals the process itself; what it started is its own business for now."""
    with suppress(ProcessLookupError):
        if is_alive(leader):
            os.kill(leader.pid, how)


def kill_group(leader: Identity) -> None:
    """SIGKILL to everything in the session's group, the leader included if it still lives."""
    living = identify(leader.pid)
    if living is not None and living != leader:
        return  # the id now belongs to a stranger
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader.pid, signal.SIGKILL)


async def end_left_overs(leaders: Sequence[Identity], patience: float = 2.0) -> None:
    """Gives processes that are ending by themselves `patience` seconds, then kills them."""
    if await _all_ended(leaders, patience):
        return
    for leader in leaders:
        kill_group(leader)
    await _all_ended(leaders, 5.0)


async def _all_ended(leaders: Sequence[Identity], patience: float) -> bool:
    """Polled, because strangers' children cannot be waited for."""
    deadline = asyncio.get_running_loop().time() + patience
    while any(is_alive(leader) for leader in leaders):
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def _identify_without_proc(pid: int) -> Identity | None:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return None
    return Identity(pid, "")

"""The state directory: its lock, the record of what runs, secrets, and markers of what is complete.

.tidegate/
  lock               held by the supervisor while it lives
  state.json         what runs, with pids and ports; ports are kept from start to start
  keys.json          the three API keys                    postgres.password
  sealing.keys       what secrets of data sources are sealed with in Postgres and Kafka
  kafka/  postgres/  data, beside a marker written once their preparation was complete
  gateway/           the gateway's own files               logs/NAME.log
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from deploy.local.children import Identity
from deploy.local.process import ProcessState

SCOPES = ("admin", "ingest", "read")
"""Of the keys that the first start makes."""


class StateError(Exception):
    """The state directory cannot be used; the message says why and what to do."""


class AlreadyRunningError(StateError):
    """Another supervisor holds the directory."""


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    pid: int | None
    started: str = ""
    port: int | None
    state: ProcessState
    restarts: int = 0
    detail: str = ""

    @property
    def identity(self) -> Identity | None:
        return None if self.pid is None else Identity(self.pid, self.started)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`state.json`. `phase` is that of the whole stack; `message` says why it failed."""

    supervisor: ProcessRecord | None = None
    phase: ProcessState = ProcessState.STOPPED
    message: str = ""
    gateway: str | None = None
    ports: Mapping[str, int] = {}
    processes: tuple[ProcessRecord, ...] = ()


class StateDirectory:
    """`path` is created on first use, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.keys_file = self.path / "keys.json"
        self.sealing_keys_file = self.path / "sealing.keys"
        self.password_file = self.path / "postgres.password"
        self._record_file = self.path / "state.json"
        self._lock_file = self.path / "lock"

    def create(self) -> None:
        """Raises `StateError`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot create {self.path}: {error.strerror}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory until the block, or this process, ends. Raises `AlreadyRunningError`, `StateError`."""
        self.create()
        try:
            file = self._lock_file.open("a")
        except OSError as error:
            raise StateError(f"cannot write to {self.path}: {error.strerror}") from error
        with file:
            if not _try_lock(file):
                raise self.already_running()
            yield

    def is_locked(self) -> bool:
        """Whether a supervisor lives. Leaves the directory as it is. Raises `StateError`."""
        try:
            file = self._lock_file.open("r")
        except FileNotFoundError:
            return False
        except PermissionError as error:
            raise StateError(f"{self.path} belongs to another user") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def read(self) -> Record:
        """An empty record when there is none. Raises `StateError` when it is damaged or not ours."""
        try:
            return msgspec.json.decode(self._record_file.read_bytes(), type=Record)
        except FileNotFoundError:
            return Record()
        except PermissionError as error:
            raise StateError(f"{self.path} belongs to another user") from error
        except msgspec.MsgspecError as error:
            raise StateError(
                f"{self._record_file} is damaged ({error}); remove that file, the data beside it is not affected"
            ) from error

    def write(self, record: Record) -> None:
        write_private(self._record_file, msgspec.json.format(msgspec.json.encode(record), indent=1))

    def is_complete(self, part: str, version: str) -> bool:
        """Whether `part` (a subdirectory) was prepared to the end. Raises `StateError` if by another version."""
        try:
            found = self._marker(part).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return False
        if found != version:
            raise StateError(
                f"{self.path / part} was made by version {found}, this is {version}: "
                "move the directory away, or use --state with another one"
            )
        return True

    def mark_complete(self, part: str, version: str) -> None:
        write_private(self._marker(part), f"{version}\n".encode())

    def already_running(self) -> AlreadyRunningError:
        """The error that says who holds the directory, and where its gateway is."""
        record = self.read()
        pid = "" if record.supervisor is None else f" (pid {record.supervisor.pid})"
        where = f", gateway at {record.gateway}" if record.gateway else ""
        return AlreadyRunningError(
            f"a stack is already running on {self.path}{pid}{where}; stop it with `tidegate down`"
        )

    def _marker(self, part: str) -> Path:
        return self.path / part / "complete"


def write_private(path: Path, content: bytes) -> None:
    """Replaces the file in one step; only its owner can read it, from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def _try_lock(file: IO[str]) -> bool:
    for _ in range(5):  # whoever only looks whether the lock is held, holds it for an instant
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def read_keys(state: StateDirectory) -> dict[str, str]:
    """The admin, ingest and read keys. Raises `StateError` before the first start, or if the file is damaged."""
    try:
        keys = msgspec.json.decode(state.keys_file.read_bytes(), type=dict[str, str])
    except FileNotFoundError as error:
        raise StateError(f"{state.keys_file} does not exist: `tidegate up` writes it on its first start") from error
    except msgspec.MsgspecError as error:
        raise StateError(_damaged_keys(state, str(error))) from error
    if missing := [scope for scope in SCOPES if scope not in keys]:
        raise StateError(_damaged_keys(state, f"no key for {', '.join(missing)}"))
    return keys


def _damaged_keys(state: StateDirectory, fault: str) -> str:
    return f"{state.keys_file} is damaged ({fault}); restore it, or remove it, and the next start makes new keys"

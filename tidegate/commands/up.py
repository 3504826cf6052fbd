"""`tidegate up`: starts the whole stack, in the foreground or as a daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from deploy.local import children
from deploy.local.artifacts import ArtifactError
from deploy.local.control import look, take_down
from deploy.local.gateway import reachable
from deploy.local.process import ProcessState
from deploy.local.settings import default_cache
from deploy.local.stack import LocalStack, StackError, fetch
from deploy.local.state import Record, StateDirectory, StateError
from tidegate.console import ConsoleReporter
from tidegate.options import DEFAULT_STATE, State

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_POLL_SECONDS = 0.1
_AFTER_LEVEL = " - "
_WARNING = f"WARNING{_AFTER_LEVEL}"


def register(app: typer.Typer) -> None:
    app.command()(up)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when ready; keep running behind.")] = False,
    port: Annotated[int, typer.Option(help="The gateway's port.", min=1, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="The gateway's address; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    state: State = DEFAULT_STATE,
    log_level: Annotated[LogLevel, typer.Option(case_sensitive=False, help="Of the services' logs.")] = "INFO",
    daemon: Annotated[bool, typer.Option("--daemon", hidden=True)] = False,
) -> None:
    """Start Kafka, PostgreSQL, the gateway and every service on this machine.

    The first start downloads Kafka (45 MB) and creates the databases; later ones take seconds. In the foreground,
    Ctrl-C stops everything.

    **Examples**

    - `tidegate up`
    - `tidegate up --detach --port 9000`
    - `tidegate up --detach --state /var/lib/tidegate`
    """
    console = Console(stderr=True)
    directory = StateDirectory(state)
    try:
        if detach:
            _detached(directory, console, port=port, host=host, log_level=log_level)
        else:
            _foreground(directory, console, port=port, host=host, log_level=log_level, daemon=daemon)
    except (ArtifactError, StackError, StateError) as error:
        console.print(f"[bold red]tidegate up failed:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _foreground(
    directory: StateDirectory, console: Console, *, port: int, host: str, log_level: str, daemon: bool
) -> None:
    directory.create()
    if not daemon and not directory.is_locked():
        children.rotate(directory.logs / "supervisor.log")
    with ConsoleReporter(console) as reporter:
        _log(directory, None if daemon else reporter)
        fetch(default_cache(os.environ, directory.path), reporter)
        stack = LocalStack(directory.path, port=port, host=host, reporter=reporter, log_level=log_level)
        asyncio.run(_run_until_signalled(stack, reporter, lambda: _print_addresses(console, directory)))


async def _run_until_signalled(stack: LocalStack, reporter: ConsoleReporter, on_ready: Callable[[], None]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signalled = asyncio.Event()

    def stop() -> None:
        if not signalled.is_set() and task is not None:  # a second Ctrl-C must not interrupt the clean end
            signalled.set()
            reporter.finish()
            reporter.say("Stopping everything.")
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        async with stack:
            reporter.finish()
            on_ready()
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not signalled.is_set():
            raise
    reporter.say("Stopped.")


def _detached(directory: StateDirectory, console: Console, *, port: int, host: str, log_level: str) -> None:
    if directory.is_locked():
        record = directory.read()
        if record.phase is not ProcessState.READY or record.gateway != f"http://{reachable(host)}:{port}":
            raise directory.already_running()
        console.print(f"Already running on {directory.path}.", highlight=False, soft_wrap=True)
        _print_addresses(console, directory)
        return
    directory.read()  # a damaged record is told before anything runs
    directory.create()
    log = directory.logs / "supervisor.log"
    children.rotate(log)
    with ConsoleReporter(console) as reporter:
        fetch(default_cache(os.environ, directory.path), reporter)
        with log.open("ab") as output:
            written = output.tell()
            supervisor = subprocess.Popen(
                (
                    *(sys.executable, "-P", "-m", "tidegate", "up", "--daemon", "--state", str(directory.path)),
                    *("--port", str(port), "--host", host, "--log-level", log_level),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait_until_ready(supervisor, directory, reporter, log, written)
        except KeyboardInterrupt:
            reporter.say("Interrupted: stopping what was started.")
            asyncio.run(take_down(directory))
            raise
    for line in _read_from(log, written).splitlines():
        if _WARNING in line:
            console.print(_escape(line.partition(_WARNING)[2].strip()), highlight=False, soft_wrap=True)
    _print_addresses(console, directory)


def _wait_until_ready(
    supervisor: subprocess.Popen[bytes],
    directory: StateDirectory,
    reporter: ConsoleReporter,
    log: Path,
    written: int,
) -> None:
    """The daemon bounds its own start, so this waits for its word or its end. Raises `StackError`."""
    while supervisor.poll() is None:
        record = directory.read()
        if record.supervisor is not None and record.supervisor.pid == supervisor.pid:
            reporter.processes(look(directory))
            if record.phase is ProcessState.READY:
                return
        time.sleep(_POLL_SECONDS)
    raise StackError(_why_it_ended(directory.read(), log, written))


def _why_it_ended(record: Record, log: Path, written: int) -> str:
    if record.phase is ProcessState.FAILED and record.message:
        return record.message
    return _read_from(log, written)[-4000:].strip()


def _read_from(log: Path, offset: int) -> str:
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode("utf-8", errors="replace")


def _print_addresses(console: Console, directory: StateDirectory) -> None:
    record = directory.read()
    rows = {
        "API": f"{record.gateway}/api/docs",
        "Keys": str(directory.keys_file),
        "Kafka": f"127.0.0.1:{record.ports['kafka']}",
        "PostgreSQL": f"127.0.0.1:{record.ports['postgres']}, password in {directory.password_file}",
        "Logs": str(directory.logs),
    }
    console.print(f"[bold green]Tidegate is ready[/] at {record.gateway}", highlight=False)
    for name, value in rows.items():
        console.print(f"  {name:<11}{_escape(value)}", highlight=False, soft_wrap=True)


def _log(directory: StateDirectory, reporter: ConsoleReporter | None) -> None:
    """To the supervisor's log; with a `reporter`, warnings are also shown. A daemon's log is its output."""
    if reporter is None:
        handlers: list[logging.Handler] = [logging.StreamHandler()]
    else:
        handlers = [logging.FileHandler(directory.logs / "supervisor.log"), _Shown(reporter)]
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname)s{_AFTER_LEVEL}%(message)s", handlers=handlers
    )
    # Readiness checks knock before Kafka listens; that is not news.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class _Shown(logging.Handler):
    def __init__(self, reporter: ConsoleReporter) -> None:
        super().__init__(logging.WARNING)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.say(record.getMessage())


def _escape(text: str) -> str:
    return text.replace("[", "\\[")

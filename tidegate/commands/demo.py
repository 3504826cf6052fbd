"""`tidegate demo`: the reference application's experiment on a real stack, and the truth beside the result."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from deploy.local.control import take_down
from deploy.local.postgres import url
from deploy.local.process import ProcessState
from deploy.local.state import StateDirectory, StateError, read_keys
from tidegate.commands.up import up
from tidegate.options import DEFAULT_STATE, State

if TYPE_CHECKING:  # loaded when the demo runs: every command imports this module
    from examples.imports.driver import RunResult, RunSettings, Target

_USERS_PER_SECOND = 20
_STARTING_SECONDS = 120.0


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    seconds: Annotated[float, typer.Option(help="How long users come and go.", min=5, max=3600)] = 45,
    users: Annotated[int | None, typer.Option(help="How many; 20 for each second if not given.", min=1)] = None,
    exit_: Annotated[bool, typer.Option("--exit", help="Stop the stack afterwards, if it was started here.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.", dir_okay=False)
    ] = None,
    port: Annotated[
        int, typer.Option(help="The gateway's port, if the stack is started here.", min=1, max=65535)
    ] = 8080,
    seed: Annotated[int, typer.Option(help="Of everything that users do by chance.")] = 1,
    state: State = DEFAULT_STATE,
) -> None:
    """Run an A/B test of background against real-time CSV imports with simulated users.

    Real files are imported into PostgreSQL. Users abandon, resend, go offline and send rubbish. From a quarter of the
    run on imports fail again and again: a circuit breaker switches them off, tells Slack, PagerDuty and e-mail (small
    receivers of the demo's own), and switches them on when a probe succeeds.

    At the end what the platform counted is compared with the driver's own log. The exit code is 0 only if every
    event, unit and abandoned import is accounted for, every channel got its messages and the breaker has closed. Uses
    the stack that runs in the state directory, or starts one.

    **Examples**

    - `tidegate demo`
    - `tidegate demo --seconds 45 --exit --json out.json`
    - `tidegate demo --users 3000 --seconds 120`
    """
    console = Console()
    if not console.is_terminal:  # a log has room for whole tables
        console = Console(width=110)
    directory = StateDirectory(state)
    try:
        if json_file is not None:
            _check_writable(json_file)
        started = not _is_running(directory, console)
        if started:
            console.print("No stack is running here: starting one.", highlight=False)
            up(detach=True, port=port, state=state, host="127.0.0.1", log_level="INFO", daemon=False)
        try:
            agrees = _run(directory, console, seconds=seconds, users=users, seed=seed, json_file=json_file)
        finally:  # after Ctrl-C too
            if started and exit_:
                _stop(directory, console)
            else:
                _print_way_on(directory, console)
    except StateError as error:
        console.print(f"tidegate demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from error
    raise typer.Exit(0 if agrees else 1)


def _check_writable(file: Path) -> None:
    """Before the run rather than after it. Raises StateError."""
    try:
        file.open("a").close()
    except OSError as error:
        raise StateError(f"cannot write {file}: {error.strerror}") from error


def _is_running(directory: StateDirectory, console: Console) -> bool:
    """Waits for a stack that is just starting. Raises StateError if it does not become ready."""
    deadline = time.monotonic() + _STARTING_SECONDS
    waited = False
    while directory.is_locked():
        if directory.read().phase is ProcessState.READY:
            return True
        if time.monotonic() > deadline:
            raise StateError(f"the stack on {directory.path} is not ready after {_STARTING_SECONDS:g} s")
        if not waited:
            console.print(f"Waiting for the stack on {directory.path}.", highlight=False, soft_wrap=True)
            waited = True
        time.sleep(0.2)
    return False


def _run(
    directory: StateDirectory,
    console: Console,
    *,
    seconds: float,
    users: int | None,
    seed: int,
    json_file: Path | None,
) -> bool:
    """Whether everything that must agree agrees."""
    import uvloop

    from examples.imports.driver import RunError, RunSettings, Target

    record = directory.read()
    if record.gateway is None:
        raise StateError(f"the stack on {directory.path} has no gateway")
    password = directory.password_file.read_text(encoding="ascii").strip()
    target = Target(
        gateway=record.gateway,
        postgres=url(password=password, port=record.ports["postgres"]),
        keys=read_keys(directory),
    )
    count = users if users is not None else max(1, round(_USERS_PER_SECOND * seconds))
    settings = RunSettings(seconds=seconds, users=count, seed=seed)
    logging.basicConfig(filename=directory.logs / "demo.log", filemode="w", level=logging.INFO, force=True)
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # the mail receiver's, a line for every command
    console.print(
        f"[bold]{count:,} users[/] import CSV files for {seconds:g} s through {target.gateway}", highlight=False
    )
    try:
        result = uvloop.run(_watched(target, settings, console))
    except RunError as error:
        console.print(f"tidegate demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        return False
    except asyncio.CancelledError:  # SIGTERM
        raise typer.Exit(143) from None
    _print_result(result, target, directory, console)
    if json_file is not None:
        json_file.write_text(json.dumps(result.comparison.to_json(), indent=2) + "\n", encoding="utf-8")
        console.print(f"Figures: {json_file}", highlight=False, soft_wrap=True)
    return not result.comparison.differences


async def _watched(target: Target, settings: RunSettings, console: Console) -> RunResult:
    from examples.imports.driver import run
    from examples.imports.progress import Progress
    from examples.imports.screen import shown

    progress = Progress()
    task = asyncio.current_task()
    if task is not None:  # a service manager's way of saying Ctrl-C
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with shown(progress, console):
        return await run(target, settings, progress)


def _print_result(result: RunResult, target: Target, directory: StateDirectory, console: Console) -> None:
    from examples.imports.report import messages_view, result_view

    console.print(result_view(result.comparison))
    console.print(Text("Last messages", style="bold"), *messages_view(result.last_messages), sep="\n")
    for text, times in result.complaints.items():
        console.print(f"✗ {times}× {text}", style="red", markup=False, soft_wrap=True)
    if result.comparison.differences:
        console.print("✗ The platform does not agree with the driver's log:", style="bold red")
        for line in result.comparison.differences:
            console.print(f"  {line.what}: expected {line.expected}, found {line.found}", markup=False)
    else:
        console.print(
            "✓ Every accepted event, every unit and every import is accounted for; the breaker has closed.",
            style="bold green",
        )
    base, key = target.gateway, result.experiment_key
    console.print(
        f"Experiment: {key}, {base}/api/v1/ab-testing/experiments/{result.experiment_id}/results", soft_wrap=True
    )
    console.print(f"Flag: {result.flag} (each run has its own, as it has its own experiment)", soft_wrap=True)
    console.print(
        f"API and its documentation: {base} and {base}/api/docs; keys: {directory.keys_file}", soft_wrap=True
    )


def _stop(directory: StateDirectory, console: Console) -> None:
    with console.status("Stopping everything"):
        ended = asyncio.run(take_down(directory))
    console.print(f"{directory.path}: {ended}.", highlight=False, soft_wrap=True)


def _print_way_on(directory: StateDirectory, console: Console) -> None:
    console.print(f"The stack goes on running; stop it with: tidegate down --state {directory.path}", soft_wrap=True)

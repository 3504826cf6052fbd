"""`tidegate status`: every process with its pid, port and state."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.local.control import look
from deploy.local.process import ProcessState, ProcessStatus
from deploy.local.state import StateDirectory, StateError
from tidegate.options import DEFAULT_STATE, State

_COLOURS = {
    ProcessState.READY: "green",
    ProcessState.UNREADY: "yellow",
    ProcessState.RESTARTING: "red",
    ProcessState.FAILED: "red",
}


def register(app: typer.Typer) -> None:
    app.command()(status)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="A list of {name, pid, port, state}.")] = False,
    state: State = DEFAULT_STATE,
) -> None:
    """Show every process of the stack. `pid` is null for what does not run at the moment.

    **Examples**

    - `tidegate status`
    - `tidegate status --json | python -m json.tool`
    """
    directory = StateDirectory(state)
    try:
        statuses, record = look(directory), directory.read()
    except StateError as error:
        Console(stderr=True).print(f"tidegate status failed: {error}", style="bold red", soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        rows = [{"name": s.name, "pid": s.pid, "port": s.port, "state": s.state.value} for s in statuses]
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    console = Console()
    supervisor = record.supervisor
    if supervisor is None or not directory.is_locked():
        console.print(f"Nothing is running on {state}.", highlight=False, soft_wrap=True)
    else:
        console.print(f"{record.gateway}, supervisor {supervisor.pid}, {state}", highlight=False, soft_wrap=True)
    if statuses:
        console.print(_table(statuses))


def _table(statuses: list[ProcessStatus]) -> Table:
    table = Table("process", "state", "pid", "port", "restarts", "", box=None, pad_edge=False)
    for s in statuses:
        colour = _COLOURS.get(s.state, "dim")
        pid, port = (str(number) if number is not None else "–" for number in (s.pid, s.port))
        table.add_row(s.name, f"[{colour}]{s.state.value}[/]", pid, port, str(s.restarts), s.detail)
    return table

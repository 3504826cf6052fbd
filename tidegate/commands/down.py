"""`tidegate down`: ends the stack, whatever state it is in."""

from __future__ import annotations

import asyncio

import typer
from rich.console import Console

from deploy.local.control import take_down
from deploy.local.state import StateDirectory, StateError
from tidegate.options import DEFAULT_STATE, State


def register(app: typer.Typer) -> None:
    app.command()(down)


def down(state: State = DEFAULT_STATE) -> None:
    """Stop everything that `tidegate up` started. Data, keys and ports are kept for the next start.

    **Examples**

    - `tidegate down`
    - `tidegate down --state /var/lib/tidegate`
    """
    console = Console(stderr=True)
    try:
        with console.status("Stopping everything"):
            ended = asyncio.run(take_down(StateDirectory(state)))
    except StateError as error:
        console.print(f"tidegate down failed: {error}", style="bold red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(f"{state}: {ended}.", highlight=False, soft_wrap=True)

"""`tidegate kill`: switches a flag, an experiment or a variant off by hand."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from tidegate.options import DEFAULT_STATE, AdminKey, State, Url
from tidegate.switching import admin_api, name_of, switch


def register(app: typer.Typer) -> None:
    app.command()(kill)


def kill(
    flag: Annotated[str, typer.Argument(metavar="KEY", help="A flag or an experiment.")],
    variant: Annotated[str | None, typer.Option(help="Only this variant of the experiment.")] = None,
    reason: Annotated[str | None, typer.Option(help="Shown wherever somebody asks why it is off.")] = None,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Switch a flag, an experiment or a variant off until it is restored by hand.

    A flag answers its off value; whoever would get a killed variant gets the control and is not counted. Needs the
    assignment service and Kafka only: it works while everything else is down.

    **Examples**

    - `tidegate kill data_import_enabled --reason "the queue is full"`
    - `tidegate kill import-modes --variant background`
    """
    body = {name: value for name, value in (("variant", variant), ("reason", reason)) if value is not None}
    with admin_api(state, url, key) as api:
        switch(api, f"switches/{quote(flag, safe='')}/kill", body)
    Console(highlight=False, soft_wrap=True).print(f"{name_of(flag, variant)} is off", markup=False)

"""`tidegate switches`: what is off, and why."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from tidegate.options import DEFAULT_STATE, AdminKey, State, Url
from tidegate.switching import admin_api, describe, held_off, name_of


def register(app: typer.Typer) -> None:
    app.command()(switches)


def switches(
    as_json: Annotated[bool, typer.Option("--json", help="As the REST interface gives it.")] = False,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Show every flag, experiment and variant that is off, since when and why.

    **Examples**

    - `tidegate switches`
    - `tidegate switches --json | python -m json.tool`
    """
    with admin_api(state, url, key) as api:
        held = held_off(api)
    if as_json:
        sys.stdout.write(json.dumps(held) + "\n")
        return
    console = Console(highlight=False, soft_wrap=True)
    for item in held:
        for off in item["off"]:
            console.print(f"{name_of(item['key'], off['variant'])}: {describe(off)}", markup=False)
    if not held:
        console.print("Nothing is off.")

"""`tidegate restore`: lets go of what was switched off."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from tidegate.options import DEFAULT_STATE, AdminKey, State, Url
from tidegate.switching import admin_api, describe, name_of, switch


def register(app: typer.Typer) -> None:
    app.command()(restore)


def restore(
    flag: Annotated[str, typer.Argument(metavar="KEY", help="A flag or an experiment.")],
    variant: Annotated[str | None, typer.Option(help="Only this variant of the experiment.")] = None,
    cause: Annotated[
        str, typer.Option(help="What switched it off, as `tidegate switches` shows it, e.g. `breaker:data_import`.")
    ] = "manual",
    reason: Annotated[str | None, typer.Option(help="Kept with the switch.")] = None,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Undo `tidegate kill`, or make a breaker let go.

    What other causes hold off stays off; they are shown. Needs the assignment service and Kafka only.

    **Examples**

    - `tidegate restore data_import_enabled`
    - `tidegate restore data_import_enabled --cause breaker:data_import`
    """
    given = (("variant", variant), ("cause", cause), ("reason", reason))
    body = {name: value for name, value in given if value is not None}
    with admin_api(state, url, key) as api:
        changed, held = switch(api, f"switches/{quote(flag, safe='')}/restore", body)
    console = Console(highlight=False, soft_wrap=True)
    if not changed:
        console.print(f"{name_of(flag, variant)} was not off by {cause}", markup=False)
    left = [off for off in held if variant is None or off["variant"] in (None, variant)]
    for off in left:
        console.print(f"{name_of(flag, off['variant'])} is still off: {describe(off)}", markup=False)
    if not left:
        console.print(f"{name_of(flag, variant)} is on", markup=False)

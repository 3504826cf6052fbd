"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_STATE = Path(".tidegate")

State = Annotated[
    Path,
    typer.Option(
        "--state",
        envvar="TIDEGATE_STATE",
        help="Directory that holds the stack's data, keys and logs.",
        file_okay=False,
        resolve_path=True,
    ),
]

Url = Annotated[
    str | None, typer.Option("--url", envvar="TIDEGATE_URL", help="The gateway; by default that of the local stack.")
]
AdminKey = Annotated[
    str | None, typer.Option("--key", envvar="TIDEGATE_KEY", help="An admin key; by default that of the local stack.")
]

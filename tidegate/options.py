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

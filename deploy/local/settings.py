"""What the embedded stack takes from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def default_state(environ: Mapping[str, str]) -> Path:
    """`TIDEGATE_STATE`, else `.tidegate` in the working directory."""
    return Path(environ.get("TIDEGATE_STATE") or ".tidegate").absolute()


def default_cache(environ: Mapping[str, str], state: Path) -> Path:
    """Where downloads go: `TIDEGATE_CACHE`, else the user's cache directory, else inside `state`.

    A download is shared by all state directories of a user; a user without a writable home still can start.
    """
    if chosen := environ.get("TIDEGATE_CACHE"):
        return Path(chosen).absolute()
    home = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    if home and _can_write(Path(home) / "tidegate"):
        return Path(home).absolute() / "tidegate"
    return state / "artifacts"


def _can_write(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)

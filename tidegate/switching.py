"""Flags and variants that are off, told to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from deploy.local.state import StateDirectory, StateError
from tidegate.admin import AdminApi, RefusedError, json_object


@contextmanager
def admin_api(state: Path, url: str | None, key: str | None) -> Iterator[AdminApi]:
    """Ends the command with 1 and says why when the gateway cannot be found or refuses."""
    try:
        with AdminApi.of(StateDirectory(state), url, key) as api:
            yield api
    except (StateError, RefusedError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True, style="red").print(str(error), markup=False)
        raise typer.Exit(1) from error


def switch(api: AdminApi, path: str, body: Mapping[str, Any]) -> tuple[bool, list[Mapping[str, Any]]]:
    """(whether that changed anything, what holds the key off now). Raises RefusedError, also for a success that is
    not Tidegate's: nothing has been switched then."""
    answer = json_object(api.request("POST", path, body))
    switched, held = answer.get("switched"), answer.get("off")
    if not isinstance(switched, dict) or not isinstance(held, list):
        raise api.stranger()
    return bool(switched.get("changed")), held


def held_off(api: AdminApi) -> list[Mapping[str, Any]]:
    """Everything that is off. Raises RefusedError."""
    answer = api.request("GET", "switches")
    try:
        held = answer.json()
    except ValueError:
        held = None
    if not isinstance(held, list):
        raise api.stranger()
    return held


def name_of(key: str, variant: str | None) -> str:
    return key if variant is None else f"{key}, variant {variant}"


def describe(off: Mapping[str, Any]) -> str:
    """One cause in a line: what it is, since when, and what is known about it."""
    parts = [str(off["cause"])]
    if off.get("off_since"):
        parts.append(f"since {off['off_since']}")
    if off.get("half_open"):
        parts.append(f"probing buckets {off['admit_from']} to {off['admit_to']} of 1000000")
    evidence = off.get("evidence") or {}
    if by := evidence.get("by"):
        parts.append(f"by key {by}")
    if reason := evidence.get("reason"):
        parts.append(str(reason))
    return ", ".join(parts)

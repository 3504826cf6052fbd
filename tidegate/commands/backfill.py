"""`tidegate backfill`: counts a metric's history, from before it was defined."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidegate.admin import AdminApi, json_object
from tidegate.options import DEFAULT_STATE, AdminKey, State, Url
from tidegate.switching import admin_api

_ASK_EVERY = 0.5


def register(app: typer.Typer) -> None:
    app.command()(backfill)


def backfill(
    metric: Annotated[str, typer.Argument(metavar="KEY", help="A metric.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Until all of it is counted; ends with 1 if that fails.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Only what came to Kafka from this time (UTC) on; by default all that it still holds.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"],
        ),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it, and remove what it counted.")] = False,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Count the events that came before a metric was defined, or last changed.

    It runs in the background, each event counts exactly once, and events that come meanwhile are not held up. Sums,
    ratios and streaks show their history when all of it is counted; journeys as it grows. Asking again shows how far
    it is. Units of experiments are not given values of before.

    **Examples**

    - `tidegate backfill purchases --wait`
    - `tidegate backfill purchases --since 2026-01-31`
    - `tidegate backfill purchases --cancel`
    """
    console = Console(highlight=False, soft_wrap=True)
    path = f"metrics/{quote(metric, safe='')}/backfill"
    with admin_api(state, url, key) as api:
        if cancel:
            removed = json_object(api.request("DELETE", path)).get("removed")
            console.print(
                f"{metric}: its history is removed" if removed else f"{metric}: ended; what was counted stays",
                markup=False,
            )
            return
        query = "" if since is None else "?" + urlencode({"since": since.isoformat()})
        found = _checked(api, json_object(api.request("POST", path + query)))
        if wait:
            found = _watch(api, path, found)
    done, total = _how_far(found)
    console.print(f"{metric}, version {found['version']}: {found['state']}, {done} of {total} records", markup=False)
    if found["state"] == "failed":
        Console(stderr=True, highlight=False, soft_wrap=True, style="red").print(str(found["reason"]), markup=False)
        raise typer.Exit(1)


def _watch(api: AdminApi, path: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Counting {found['metric']}")
        while found["state"] == "running":
            done, total = _how_far(found)
            progress.update(task, completed=done, total=total or None)
            time.sleep(_ASK_EVERY)
            found = _checked(api, json_object(api.request("GET", path)))
    return found


def _how_far(found: Mapping[str, Any]) -> tuple[int, int]:
    """Records counted and to count, of the partitions that have begun."""
    begun = [s for s in found["shards"] if s["next_offset"] is not None]
    return (
        sum(max(0, s["next_offset"] - s["from"]) for s in begun),
        sum(s["to"] - s["from"] for s in begun),
    )


def _checked(api: AdminApi, found: dict[str, Any]) -> Mapping[str, Any]:
    if not isinstance(found.get("shards"), list) or "state" not in found:
        raise api.stranger()
    return found

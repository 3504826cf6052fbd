"""`tidegate dead-letters`: what could not become an event, shown, exported, corrected and replayed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console

from tidegate.admin import AdminApi, json_object
from tidegate.options import DEFAULT_STATE, AdminKey, State, Url
from tidegate.switching import admin_api

_PATH = "/api/v1/streaming-analytics/dead-letters"

Reason = Annotated[str | None, typer.Option(help="Only those refused for this reason.")]
Origin = Annotated[str | None, typer.Option(help="Only those that came this way: http, kafka, source:KEY, …")]
EventType = Annotated[str | None, typer.Option("--type", help="Only JSON whose event_type is this.")]
Text = Annotated[str | None, typer.Option(help="Only those that hold this text.")]
Since = Annotated[str | None, typer.Option(help="Only those rejected since, e.g. 2026-11-20T08:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Only those rejected before.")]
StateFilter = Annotated[str | None, typer.Option("--in", help="open, replaying, replayed or discarded.")]
Json = Annotated[str | None, typer.Option("--patch", metavar="JSON", help="A JSON merge patch; null removes.")]
Rename = Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="Move a field; may be repeated.")]


def register(app: typer.Typer) -> None:
    app.command("list")(show)
    for command in (counts, export, replay, discard):
        app.command()(command)

    @app.callback()
    def group() -> None:
        """See what could not become an event; correct it and replay it."""


def show(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    reason: Reason = None,
    origin: Origin = None,
    event_type: EventType = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    in_state: StateFilter = None,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Show the newest dead letters, a line each: id, time, state, origin, reason and detail.

    **Examples**

    - `tidegate dead-letters list --reason timestamp_in_future`
    - `tidegate dead-letters list --text order-17 --in open`
    """
    query = _filters(reason, origin, event_type, text, since, until, state=in_state)
    left = limit
    with admin_api(state, url, key) as api:
        for page in _pages(api, "", {**query, "limit": str(limit)}):
            items = page["items"][:left]
            left -= len(items)
            for one in items:
                words = (one["id"], one["rejected_at"], one["state"], one["origin"], one["reason"], one["detail"])
                _say("  ".join(words))
            if not left:
                break
    if left == limit:
        _say("There are none.")


def counts(
    reason: Reason = None,
    origin: Origin = None,
    event_type: EventType = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    in_state: StateFilter = None,
    as_json: Annotated[bool, typer.Option("--json", help="As the REST interface gives them.")] = False,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Count dead letters by reason, origin, state and day.

    **Examples**

    - `tidegate dead-letters counts --since 2026-11-20T00:00:00Z`
    """
    query = _filters(reason, origin, event_type, text, since, until, state=in_state)
    found = {name: Counter[str]() for name in ("by_reason", "by_origin", "by_state")}
    days: dict[str, Counter[str]] = {}
    with admin_api(state, url, key) as api:
        for page in _pages(api, "/counts", query):
            for name, counter in found.items():
                counter.update(page[name])
            for day, by_reason in page["by_day"].items():
                days.setdefault(day, Counter()).update(by_reason)
    total = found["by_reason"].total()
    if as_json:
        sys.stdout.write(json.dumps({"total": total, **found, "by_day": days}) + "\n")
        return
    _say(f"{total} dead letters")
    for name, counter in {**found, "by_day": Counter({day: c.total() for day, c in sorted(days.items())})}.items():
        for value, count in counter.items():
            _say(f"  {name.removeprefix('by_')} {value}: {count}")


def export(
    output: Annotated[Path | None, typer.Option(help="A file; by default standard output.", dir_okay=False)] = None,
    reason: Reason = None,
    origin: Origin = None,
    event_type: EventType = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    in_state: StateFilter = None,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Write dead letters as NDJSON, oldest first, a JSON object a line.

    **Examples**

    - `tidegate dead-letters export --in open --output letters.ndjson`
    """
    query = _filters(reason, origin, event_type, text, since, until, state=in_state)
    with admin_api(state, url, key) as api, _opened(output) as write:
        for line in api.lines(f"{_PATH}/export", query):
            write(line + "\n")


def replay(
    letter: Annotated[str | None, typer.Argument(metavar="ID", help="One letter; else all that fit.")] = None,
    patch: Json = None,
    rename: Rename = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge only; store nothing.")] = False,
    reason: Reason = None,
    origin: Origin = None,
    event_type: EventType = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Judge dead letters once more, corrected if need be, and store the events that are valid now. Each counts once.

    **Examples**

    - `tidegate dead-letters replay 0-163-0a610322 --patch '{"event_timestamp": null}'`
    - `tidegate dead-letters replay --reason schema_violation --rename type=event_type --dry-run`
    """
    correction = {"rename": _renames(rename), "patch": _patch(patch)}
    filters = _filters(reason, origin, event_type, text, since, until)
    if letter is not None and (filters or dry_run):
        raise typer.BadParameter("a letter's ID goes neither with filters nor with --dry-run")
    with admin_api(state, url, key) as api:
        if letter is not None:
            answer = json_object(api.ask("POST", f"{_PATH}/{quote(letter, safe='')}/replay", correction))
            _say(f"{letter} is event {answer['event_id']}")
            return
        body = {"filter": filters, "dry_run": dry_run, **correction}
        sums, refused = Counter[str](), Counter[str]()
        for page in _operation(api, "/replay", body):
            sums.update({name: page[name] for name in ("found", "valid", "replayed")})
            refused.update(page["invalid"])
            refused.update(page["hindered"])
    _say(f"{sums['found']} found, {sums['valid']} valid, {sums['replayed']} replayed")
    for name, count in refused.items():
        _say(f"  {name}: {count}")


def discard(
    letter: Annotated[str | None, typer.Argument(metavar="ID", help="One letter; else all that fit.")] = None,
    reason: Reason = None,
    origin: Origin = None,
    event_type: EventType = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Mark open dead letters as unwanted. They can still be replayed, one by one.

    **Examples**

    - `tidegate dead-letters discard --reason malformed_json --until 2026-11-01T00:00:00Z`
    """
    filters = _filters(reason, origin, event_type, text, since, until)
    if letter is None and not filters:
        raise typer.BadParameter("name a letter or at least one filter")
    if letter is not None and filters:
        raise typer.BadParameter("a letter's ID does not go with filters")
    with admin_api(state, url, key) as api:
        if letter is not None:
            answer = json_object(api.ask("POST", f"{_PATH}/{quote(letter, safe='')}/discard"))
            _say(f"{letter} is {answer['state']}")
            return
        discarded = sum(page["discarded"] for page in _operation(api, "/discard", {"filter": filters}))
    _say(f"{discarded} discarded")


def _filters(
    reason: str | None,
    origin: str | None,
    event_type: str | None,
    text: str | None,
    since: str | None,
    until: str | None,
    **more: str | None,
) -> dict[str, str]:
    given = {"reason": reason, "origin": origin, "event_type": event_type, "text": text, "since": since}
    return {name: value for name, value in {**given, "until": until, **more}.items() if value is not None}


def _pages(api: AdminApi, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Answers until the search is at its end."""
    cursor: dict[str, str] = {}
    while True:
        page = json_object(api.ask("GET", _PATH + path, query={**query, **cursor}))
        if "searched" not in page:
            raise api.stranger()
        yield page
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def _operation(api: AdminApi, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = json_object(api.ask("POST", _PATH + path, {**body, "cursor": cursor}))
        if "searched" not in page:
            raise api.stranger()
        yield page
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _renames(given: list[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in given or []]
    if any(not old or not new for old, _, new in pairs):
        raise typer.BadParameter("--rename wants OLD=NEW, such as type=event_type")
    return {old: new for old, _, new in pairs}


def _patch(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        patch = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--patch is no JSON: {error}") from None
    if not isinstance(patch, dict):
        raise typer.BadParameter("--patch wants a JSON object")
    return patch


@contextmanager
def _opened(output: Path | None) -> Iterator[Any]:
    if output is None:
        yield sys.stdout.write
        return
    with output.open("w", encoding="utf-8") as file:
        yield file.write


def _say(text: str) -> None:
    Console(highlight=False, soft_wrap=True).print(text, markup=False)

"""`tidegate apply`: sends definitions to the services that own them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import httpx
import typer
from rich.console import Console

from deploy.local.stack import read_keys
from deploy.local.state import StateDirectory, StateError
from tidegate.definitions import DefinitionError, Document, find_files, in_order, parse
from tidegate.options import DEFAULT_STATE, State

_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 4
_STYLES = {"created": "green", "changed": "yellow", "unchanged": "dim"}


def register(app: typer.Typer) -> None:
    app.command()(apply)


def apply(
    path: Annotated[
        Path, typer.Option("--file", "-f", help="A file, a directory of files, or - for standard input.")
    ],
    state: State = DEFAULT_STATE,
    url: Annotated[
        str | None, typer.Option(envvar="TIDEGATE_URL", help="The gateway; by default that of the local stack.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="TIDEGATE_KEY", help="An admin key; by default that of the local stack.")
    ] = None,
) -> None:
    """Create or change metrics and experiments from YAML files.

    Every document has a `kind`, a `key` and a `spec`. All files are checked before the first is sent; applying the
    same files again changes nothing. Ends with 1 if any document was refused.

    **Examples**

    - `tidegate apply -f definitions/`
    - `tidegate apply -f signup.yaml --url https://tidegate.example.com --key "$ADMIN_KEY"`
    - `cat experiment.yaml | tidegate apply -f -`
    """
    console = Console(highlight=False, soft_wrap=True)
    errors = Console(stderr=True, highlight=False, soft_wrap=True, style="red")
    try:
        documents = in_order(document for source, text in _read(path) for document in parse(text, source))
        if not documents:
            raise DefinitionError(f"{'standard input' if str(path) == '-' else path} holds no definition")
        gateway, admin_key = _target(StateDirectory(state), url, key)
    except (DefinitionError, StateError) as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from error
    refused = 0
    with httpx.Client(base_url=gateway, timeout=_TIMEOUT_SECONDS) as client:
        for document in documents:
            try:
                outcome = _send(client, document, admin_key)
            except _RefusedError as error:
                refused += 1
                errors.print(f"{document}: {error}", markup=False)
            else:
                console.print(f"{document.kind} {document.key} [{_STYLES[outcome]}]{outcome}[/]")
    if refused:
        errors.print(f"{refused} of {len(documents)} documents were refused.")
        raise typer.Exit(1)


class _RefusedError(Exception):
    """What the server, or the network, said."""


def _read(path: Path) -> list[tuple[str, str]]:
    if str(path) == "-":
        return [("standard input", sys.stdin.read())]
    try:
        return [(str(file), file.read_text(encoding="utf-8")) for file in find_files(path)]
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"cannot read {path}: {error}") from error


def _target(state: StateDirectory, url: str | None, key: str | None) -> tuple[str, str]:
    gateway = url or state.read().gateway
    if gateway is None:
        raise StateError(
            f"no stack has run on {state.path} yet: start one with `tidegate up`, or name one with --url"
        )
    admin_key = key or read_keys(state)["admin"]
    if not (admin_key.isascii() and admin_key.isprintable()):
        raise StateError("the admin key holds characters that no key has: was it copied whole?")
    return gateway, admin_key


def _send(client: httpx.Client, document: Document, key: str) -> str:
    """created, changed or unchanged. Raises `_RefusedError`; a service that is restarting is asked again."""
    target = f"/api/v1/admin/{document.path}/{quote(document.key, safe='')}"
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            answer = client.put(target, json=document.spec, headers={"Authorization": f"Bearer {key}"})
        except httpx.TransportError as error:
            raise _RefusedError(f"{client.base_url} does not answer: {error}") from error
        if answer.status_code not in (502, 503) or attempt == _ATTEMPTS:
            break
        time.sleep(attempt)
    if answer.status_code == 404:
        raise _RefusedError(f"404 {client.base_url} takes no {document.path}, or none with this key")
    if not answer.is_success:
        raise _RefusedError(_problem(answer))
    return _outcome(answer)


def _outcome(answer: httpx.Response) -> str:
    said = _json(answer).get("status")
    return (
        said if isinstance(said, str) and said in _STYLES else "created" if answer.status_code == 201 else "changed"
    )


def _problem(answer: httpx.Response) -> str:
    body = _json(answer)
    text = body.get("detail") or body.get("title") or answer.text[:500]
    reason = f" ({body['reason']})" if "reason" in body else ""
    return f"{answer.status_code} {text}{reason}"


def _json(answer: httpx.Response) -> dict[str, object]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}

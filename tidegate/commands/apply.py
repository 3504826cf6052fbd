"""`tidegate apply`: sends definitions to the services that own them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from deploy.local.state import StateDirectory, StateError
from tidegate.admin import AdminApi, RefusedError, json_object
from tidegate.definitions import DefinitionError, Document, find_files, in_order, parse
from tidegate.options import DEFAULT_STATE, AdminKey, State, Url

_STYLES = {"created": "green", "changed": "yellow", "unchanged": "dim"}


def register(app: typer.Typer) -> None:
    app.command()(apply)


def apply(
    path: Annotated[
        Path, typer.Option("--file", "-f", help="A file, a directory of files, or - for standard input.")
    ],
    state: State = DEFAULT_STATE,
    url: Url = None,
    key: AdminKey = None,
) -> None:
    """Create or change metrics, schemas, intake rules, sources, experiments, flags, rules … from YAML files.

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
        api = AdminApi.of(StateDirectory(state), url, key)
    except (DefinitionError, StateError) as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from error
    refused = 0
    with api:
        for document in documents:
            try:
                outcome = _send(api, document)
            except RefusedError as error:
                refused += 1
                errors.print(f"{_where(document, error.place)}: {error}", markup=False)
            else:
                console.print(f"{document.kind} {document.key} [{_STYLES[outcome]}]{outcome}[/]")
    if refused:
        errors.print(f"{refused} of {len(documents)} documents were refused.")
        raise typer.Exit(1)


def _read(path: Path) -> list[tuple[str, str]]:
    if str(path) == "-":
        return [("standard input", sys.stdin.read())]
    try:
        return [(str(file), file.read_text(encoding="utf-8")) for file in find_files(path)]
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"cannot read {path}: {error}") from error


def _where(document: Document, place: str | None) -> str:
    """`file:line: document`, where the fault has a line of its own."""
    line = None if place is None else document.line_of(place)
    return str(document) if line is None else f"{document.source}:{line}: {document.kind} {document.key}"


def _send(api: AdminApi, document: Document) -> str:
    """created, changed or unchanged. Raises RefusedError."""
    try:
        answer = api.request("PUT", f"{document.path}/{quote(document.key, safe='')}", document.spec)
    except RefusedError as error:
        if error.status == 404:
            text = f"404 {api.gateway} takes no {document.path}, or none with this key"
            raise RefusedError(text, 404) from None
        raise
    said = json_object(answer).get("status")
    if not isinstance(said, str) or said not in _STYLES:
        raise api.stranger()
    return said

"""Definition files: YAML documents of `kind`, `key` and `spec`, read whole before anything is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

PLURALS = {
    "metric": "metrics",
    "schema": "schemas",
    "intake-rule": "intake-rules",
    "source": "sources",
    "experiment": "experiments",
    "flag": "flags",
    "channel": "channels",
    "rule": "rules",
    "breaker": "breakers",
}
"""Kind → its name in the API, in the order of sending: what others refer to comes first."""

MAX_DEPTH = 64
"""Services accept no deeper JSON."""

SUFFIXES = (".yaml", ".yml", ".json")

_OUTER = re.compile(r"(?:\.[^.\[]*|\[[0-9]+\]|^[^.\[]+)$")
"""The last step of a place."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_SINGULARS = {plural: kind for kind, plural in PLURALS.items()}
_ORDER = {kind: number for number, kind in enumerate(PLURALS)}


class DefinitionError(Exception):
    """A file or document that cannot be sent; the message names file and document."""


@dataclass(frozen=True, slots=True)
class Document:
    """One definition. `number` counts the documents of `source`, from 1; `spec` is plain JSON data."""

    kind: str
    key: str
    spec: Mapping[str, Any]
    source: str
    number: int
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Place in the document (`spec.filter.all[1].op`) → line of the file, from 1."""

    def line_of(self, place: str) -> int | None:
        """Where the place stands, or, if it is missing, what it should stand in."""
        while place not in self.lines:
            shorter = _OUTER.sub("", place)
            if shorter == place:
                return self.lines.get("")
            place = shorter
        return self.lines[place]

    @property
    def path(self) -> str:
        """Below `/api/v1/admin/`."""
        return PLURALS[self.kind]

    def __str__(self) -> str:
        return f"{self.source} document {self.number} ({self.kind} {self.key})"


def find_files(path: Path) -> tuple[Path, ...]:
    """The file itself, or all YAML and JSON files below a directory, sorted. Raises `DefinitionError`."""
    if path.is_dir():
        found = tuple(sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file()))
        if not found:
            raise DefinitionError(f"{path} holds no {', '.join(SUFFIXES)} files")
        return found
    if not path.exists():
        raise DefinitionError(f"{path} does not exist")
    return (path,)


def parse(text: str, source: str) -> tuple[Document, ...]:
    """The documents of one file; empty ones are skipped. Raises `DefinitionError`."""
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
        contents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise DefinitionError(f"{source} is not valid YAML: {error}") from error
    except RecursionError:
        raise DefinitionError(f"{source} is nested too deeply") from None
    return tuple(
        replace(_document(content, source, number), lines=_lines(node))
        for number, (node, content) in enumerate(zip(nodes, contents, strict=True), start=1)
        if content is not None
    )


def in_order(documents: Iterable[Document]) -> tuple[Document, ...]:
    """Sorted by kind, otherwise as written. Raises `DefinitionError` when two define the same thing."""
    seen: dict[tuple[str, str], Document] = {}
    for document in documents:
        first = seen.setdefault((document.kind, document.key), document)
        if first is not document:
            raise DefinitionError(f"{document} is defined already by {first}")
    return tuple(sorted(seen.values(), key=lambda document: _ORDER[document.kind]))


def _document(content: object, source: str, number: int) -> Document:
    where = f"{source} document {number}"
    if not isinstance(content, dict):
        raise DefinitionError(f"{where} must be a mapping of kind, key and spec")
    if unknown := [str(name) for name in content if name not in ("kind", "key", "spec")]:
        raise DefinitionError(f"{where} has {', '.join(unknown)} beside kind, key and spec")
    kind, key, spec = content.get("kind"), content.get("key"), content.get("spec")
    if not isinstance(kind, str) or (kind := _SINGULARS.get(kind, kind)) not in PLURALS:
        raise DefinitionError(f"{where}: kind must be one of {', '.join(PLURALS)}, not {kind!r}")
    if not isinstance(key, str) or not key:
        raise DefinitionError(f"{where}: key must be a text, not {key!r}")
    _check_json(key, f"{where}: key")
    if not isinstance(spec, dict):
        raise DefinitionError(f"{where} ({kind} {key}): spec must be a mapping")
    _check_json(spec, f"{where} ({kind} {key}): spec")
    return Document(kind=kind, key=key, spec=spec, source=source, number=number)


def _lines(root: yaml.Node) -> dict[str, int]:
    """Of a document that is plain JSON, so no deeper than MAX_DEPTH."""
    lines: dict[str, int] = {}

    def walk(node: yaml.Node, place: str, line: int) -> None:
        lines[place] = line
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                walk(value, f"{place}.{key.value}" if place else str(key.value), key.start_mark.line + 1)
        elif isinstance(node, yaml.SequenceNode):
            for i, item in enumerate(node.value):
                walk(item, f"{place}[{i}]", item.start_mark.line + 1)

    walk(root, "", root.start_mark.line + 1)
    return lines


def _check_json(value: object, where: str, depth: int = 1) -> None:
    """YAML can say more than JSON; what cannot be sent is refused by name."""
    if isinstance(value, dict | list) and depth > MAX_DEPTH:  # or an alias within its own anchor: endless
        raise DefinitionError(f"{where[:200]}… is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise DefinitionError(f"{where} has the key {name!r}, which must be a text: quote it")
            _check_json(name, f"{where}: the key {name!r}")
            _check_json(item, f"{where}.{name}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, str):
        if _SURROGATE.search(value):
            raise DefinitionError(f"{where} holds half of a surrogate pair, which JSON cannot hold")
    elif isinstance(value, float) and not math.isfinite(value):
        raise DefinitionError(f"{where} is {value}, which JSON cannot hold")
    elif not isinstance(value, int | float | None):
        raise DefinitionError(f"{where} is a {type(value).__name__}, which JSON cannot hold")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `on`, `off`, `yes` and `no` are texts (variants are called that), and so are dates."""


def _without(tags: Sequence[str]) -> dict[str, list[tuple[str, Any]]]:
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    return {
        first: [(tag, pattern) for tag, pattern in entries if tag not in tags] for first, entries in resolvers.items()
    }


_BOOL, _TIMESTAMP = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"
_Loader.yaml_implicit_resolvers = _without((_BOOL, _TIMESTAMP))
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))

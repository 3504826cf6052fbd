"""Computed values: `properties.recordsSuccessful / properties.recordsProcessed`, read with a parser of our own.

    or ← and ← not ← comparison ← sum ← product ← unary minus ← number, "text", path, function(…), (…)

Not Python's grammar: a path may have any word in it, also `properties.from`, and a fault is named by its character.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.aggregator.domain.event import DecodedEvent
from services.aggregator.domain.operations import (
    BINARY,
    COALESCE,
    FUNCTIONS,
    IF,
    MOST_CHOICES,
    NEGATE,
    NOT,
    Call,
    Coalesce,
    EventTime,
    If,
    Literal,
    Node,
    NotPlainError,
    Read,
)
from services.aggregator.domain.paths import FIELDS, TREES, Path, parse_path
from shared.definition_error import DefinitionError

MAX_LENGTH = 500
MAX_DEPTH = 20
"""Of parentheses, functions and signs within each other."""
MAX_OPERATIONS = 100

_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"""|(?P<text>"[^"]*"|'[^']*')"""
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=|>=|==|!=|[-+*/()<>,\[\].])"
)
_STEP = re.compile(r"[\w$@:]+")
_COMPARISONS = ("<=", ">=", "==", "!=", "<", ">")
_PLAIN_PATH = re.compile(r"""[^\s+*/<>=!,()"'\[\]]+""")
_MINUS_PATH = re.compile(r"-(?:properties|context)\.")


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked computed value. Two of the same text are the same."""

    text: str
    node: Node = field(compare=False)

    def __str__(self) -> str:
        return self.text

    def of(self, event: DecodedEvent) -> Any:
        """A JSON value, None or INVALID."""
        return self.node.of(event)

    def read(self, events: Sequence[DecodedEvent]) -> list[Any]:
        """What `of` gives for each of the events, faster where all of it is numbers."""
        if events:
            try:
                values: list[Any] = self.node.column(events).tolist()
                return values
            except NotPlainError:
                pass
        return [*map(self.node.of, events)]


Source = Path | Expression
"""Where a measure's values come from."""


def parse_source(text: object, place: str) -> Source:
    """A path alone, else an expression. Raises DefinitionError.

    A name with a hyphen in it, such as `properties.load-time`, is a path where it stands alone; within an expression
    it is written `properties["load-time"]`.
    """
    if not isinstance(text, str):
        raise DefinitionError(place, "must be a path such as properties.amount, or an expression")
    text = text.strip()
    if _PLAIN_PATH.fullmatch(text) and not _MINUS_PATH.search(text):
        root, dot, _ = text.partition(".")
        if root in FIELDS or (root in TREES and dot):
            return parse_path(text, place)
    return parse_expression(text, place)


def parse_expression(text: object, place: str) -> Expression:
    """Raises DefinitionError, which says where in the text the fault is."""
    if not isinstance(text, str) or not text.strip():
        raise DefinitionError(place, "must be an expression such as properties.a / properties.b")
    if len(text) > MAX_LENGTH:
        raise DefinitionError(place, f"an expression has at most {MAX_LENGTH} characters")
    return Expression(text, _Parser(text, place).whole())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent. One token is looked at ahead."""

    def __init__(self, text: str, place: str) -> None:
        self._text = text
        self._place = place
        self._depth = 0
        self._operations = 0
        self._at = 0
        self._next = self._scan()

    def whole(self) -> Node:
        node = self._either()
        if self._next.kind != "end":
            raise self._fault("an operator or the end")
        return node

    def _scan(self) -> _Token:
        space = _SPACE.match(self._text, self._at)
        begin = space.end() if space else self._at
        if begin == len(self._text):
            return _Token("end", "the end", begin)
        match = _TOKEN.match(self._text, begin)
        if match is None:
            return _Token("stranger", self._text[begin], begin)
        self._at = match.end()
        return _Token(str(match.lastgroup), match[0], begin)

    def _take(self) -> _Token:
        taken, self._next = self._next, self._scan()
        return taken

    def _takes(self, *texts: str) -> str | None:
        """Takes the token if it is one of these signs or words."""
        if self._next.kind in ("sign", "name") and self._next.text in texts:
            return self._take().text
        return None

    def _expect(self, text: str) -> None:
        if self._takes(text) is None:
            raise self._fault(repr(text))

    def _fault(self, wanted: str) -> DefinitionError:
        return DefinitionError(
            self._place, f"at character {self._next.at + 1}: expected {wanted}, found {self._next.text[:40]!r}"
        )

    def _call(self, node: Node) -> Node:
        self._operations += 1
        if self._operations > MAX_OPERATIONS:
            raise DefinitionError(self._place, f"more than {MAX_OPERATIONS} operations")
        return node

    def _either(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DefinitionError(self._place, f"nested deeper than {MAX_DEPTH}")
        node = self._both()
        while self._takes("or"):
            node = self._call(Call(BINARY["or"], (node, self._both())))
        self._depth -= 1
        return node

    def _both(self) -> Node:
        node = self._negation()
        while self._takes("and"):
            node = self._call(Call(BINARY["and"], (node, self._negation())))
        return node

    def _negation(self) -> Node:
        turns = 0
        while self._takes("not"):
            turns += 1
        node = self._comparison()
        for _ in range(turns):
            node = self._call(Call(NOT, (node,)))
        return node

    def _comparison(self) -> Node:
        node = self._sum()
        if sign := self._takes(*_COMPARISONS):
            node = self._call(Call(BINARY[sign], (node, self._sum())))
        return node

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._takes("+", "-"):
            node = self._call(Call(BINARY[sign], (node, self._product())))
        return node

    def _product(self) -> Node:
        node = self._signed()
        while sign := self._takes("*", "/"):
            node = self._call(Call(BINARY[sign], (node, self._signed())))
        return node

    def _signed(self) -> Node:
        turns = 0
        while self._takes("-"):
            turns += 1
        node = self._primary()
        for _ in range(turns):
            node = self._call(Call(NEGATE, (node,)))
        return node

    def _primary(self) -> Node:
        if self._next.kind == "number":
            number = float(self._next.text)
            if not math.isfinite(number):
                raise self._fault("a number that a computer can hold")
            self._take()
            return Literal(number)
        if self._next.kind == "text":
            return Literal(self._take().text[1:-1])
        if self._takes("("):
            node = self._either()
            self._expect(")")
            return node
        if self._next.kind == "name":
            return self._named()
        raise self._fault("a number, a text, a path, a function or '('")

    def _named(self) -> Node:
        name = self._next.text
        if name in ("true", "false"):
            self._take()
            return Literal(name == "true")
        if name in TREES or name in FIELDS or name == "time":
            return self._path()
        if name in FUNCTIONS or name in (IF, COALESCE):
            self._take()
            return self._function(name)
        known = ", ".join((*FIELDS, "time", *TREES, IF, COALESCE, *FUNCTIONS))
        raise self._fault(f"one of {known}")

    def _path(self) -> Node:
        root = self._take()
        if root.text == "time":
            return EventTime()
        steps: list[str] = []
        while root.text in TREES and self._next.kind == "sign" and self._next.text in (".", "["):
            if self._next.text == ".":
                steps.append(self._step())
            else:
                self._take()
                if self._next.kind != "text" or len(self._next.text) == 2:
                    raise self._fault('a name in quotes, as in properties["odd name"]')
                steps.append(self._take().text[1:-1])
                self._expect("]")
        if root.text in TREES and not steps:
            raise self._fault("'.' and a name")
        return Read(Path(root.text, tuple(steps)))

    def _step(self) -> str:
        """A name after a dot may be what elsewhere is a number or a word with a meaning."""
        begin = self._next.at + 1
        match = _STEP.match(self._text, begin)
        if match is None:
            self._take()
            raise self._fault("a name")
        self._at = match.end()
        self._next = self._scan()
        return match[0]

    def _function(self, name: str) -> Node:
        self._expect("(")
        arguments = [self._either()]
        while self._takes(","):
            arguments.append(self._either())
        least, most = self._bounds(name)
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise DefinitionError(self._place, f"{name} takes {wanted} arguments, not {len(arguments)}")
        self._expect(")")
        if name == IF:
            return self._call(If(*arguments))
        if name == COALESCE:
            return self._call(Coalesce(tuple(arguments)))
        return self._call(Call(FUNCTIONS[name], tuple(arguments)))

    @staticmethod
    def _bounds(name: str) -> tuple[int, int]:
        if name == IF:
            return 3, 3
        if name == COALESCE:
            return 2, MOST_CHOICES
        return FUNCTIONS[name].least, FUNCTIONS[name].most

"""JMESPath (https://jmespath.org) within bounds: a few characters of it can double their input with every step.

Work and results are paid from one budget, which grows with what is searched: honest expressions look at everything a
few times, and never come near it.
"""

from __future__ import annotations

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from services.ingest.domain.sources.values import size_within

_PER_BYTE = 6
_AT_LEAST = 64 * 1024
_STEP = 2
"""What a step of the evaluation costs, as much as the smallest part of a result."""
_SHARED = frozenset(
    {"and_expression", "current", "expref", "field", "identity", "index", "index_expression"}
    | {"key_val_pair", "literal", "or_expression", "pipe", "subexpression"}
)
"""These give what is there already, or what has been paid for."""


class ExpressionError(Exception):
    """What the expression finds cannot be told; `str()` says why, in one line."""


class Expression:
    """Raises JMESPathError for what is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parsed: Any = jmespath.compile(text).parsed

    def search(self, value: Any, size: int) -> Any:
        """What the expression finds in a value whose JSON has about `size` bytes. Raises ExpressionError."""
        try:
            return _Bounded(_AT_LEAST + _PER_BYTE * size).visit(self._parsed, value)
        except RecursionError:
            raise ExpressionError("goes too deep") from None
        except (JMESPathError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
            raise ExpressionError(one_line(str(error))) from None


def one_line(text: str) -> str:
    """An error's text without the drawing that the library adds, in at most 300 characters."""
    return " ".join(text.split())[:300]


class _Bounded(TreeInterpreter):
    def __init__(self, budget: int) -> None:
        super().__init__()
        self._left = budget

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._pay(_STEP)
        found = super().visit(node, *args, **kwargs)
        if node["type"] not in _SHARED and isinstance(found, list | dict | str):
            self._pay(size_within(found, self._left))
        return found

    def _pay(self, price: int) -> None:
        self._left -= price
        if self._left < 0:
            raise ExpressionError("multiplies what it searches beyond bounds")

"""How long a pattern may take to look at one character, before it has seen any.

The engine never backtracks, but it may have to follow as many places of a pattern at once as the pattern has when
all that it repeats is written out: `[ab]*a[ab]{500}` is at up to 502 of them. Ordinary patterns are at one or two.
"""

from __future__ import annotations

import re

LEAST = 4
"""Parts of a schema that look at a value: what an ordinary pattern's look at a character counts as, with room."""
_PLACES = 5
"""So many places of a pattern count as one such part: 10 ns each."""
_UNKNOWN = 2_000
"""Places, as many as fit in the memory that a pattern may take."""

_UNUSUAL = re.compile(r"\(\?[a-zA-Z-]*x|\[\^?\]|\[(?:\\.|[^\]\\\[])*\[", re.DOTALL)
"""White space that says nothing, brackets within brackets: what is read below would not be what the engine reads."""
_TOKEN = re.compile(
    r"\\(?:[pPux]\{[^}]*\}|.)|\[(?:\\.|[^\]\\])*\]|\{(?P<least>\d+)(?:,(?P<most>\d*))?\}|[()*+?]|.", re.DOTALL
)


def pattern_cost(pattern: str) -> int:
    """In parts of a schema that look at a value; at least `LEAST`."""
    return max(LEAST, _places(pattern) // _PLACES)


def _places(pattern: str) -> int:
    if _UNUSUAL.search(pattern):
        return _UNKNOWN
    around: list[int] = []
    places = last = 0
    for token in _TOKEN.finditer(pattern):
        text = token.group()
        if token["least"] is not None:
            times = max(1, int(token["least"]), int(token["most"] or 0))
            places += (times - 1) * last
            last *= times
        elif text == "(":
            around.append(places)
            places = last = 0
        elif text == ")":
            last = places
            places += around.pop() if around else 0
        elif text not in "*+?":
            last = 1
            places += 1
    return places + sum(around)

"""How far an upload has come, in an answer that does not grow with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.ingest.domain.batch_body import MAX_BATCH_EVENTS
from services.ingest.domain.lines import Line
from services.ingest.domain.normalise import Rejected
from services.ingest.domain.quality.aside import Verdict
from services.ingest.domain.verdict import verdict_of
from shared.messages import Event

MAX_INVALID = MAX_BATCH_EVENTS
"""With more invalid lines the file is something else; each of them is a dead letter."""
MAX_SHOWN = 1_000
"""So many invalid lines are named of an upload that is longer than a batch."""


class Upload:
    """What has been decided of the lines so far; those before `next_line` need not be sent again."""

    def __init__(self, first_line: int) -> None:
        self.accepted = 0
        self.invalid = 0
        self.set_aside = 0
        self.next_line = first_line
        self._results: list[dict[str, Any]] = []

    def add(self, lines: Sequence[Line], verdicts: Sequence[Verdict]) -> None:
        """The verdicts of the next lines, which have been stored."""
        refused = sum(isinstance(verdict, Rejected) for verdict in verdicts)
        stored = sum(isinstance(verdict, Event) for verdict in verdicts)
        self.invalid += refused
        self.accepted += stored
        self.set_aside += len(verdicts) - refused - stored
        self.next_line = lines[-1].number + 1
        found = [{"line": line.number, **verdict_of(verdict)} for line, verdict in zip(lines, verdicts, strict=True)]
        self._results += found
        if self.events > MAX_BATCH_EVENTS:
            self._results = [result for result in self._results if result["status"] == "invalid"][:MAX_SHOWN]

    @property
    def events(self) -> int:
        """So many have been judged."""
        return self.accepted + self.invalid + self.set_aside

    def answer(self) -> dict[str, Any]:
        """A verdict for each event of what could have been a batch; of more, those for the first invalid lines."""
        return {
            "accepted": self.accepted,
            "invalid": self.invalid,
            "set_aside": self.set_aside,
            "next_line": self.next_line,
            "results": self._results,
        }

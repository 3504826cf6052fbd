"""What a run is judged by. Each aspect defines metrics, takes every event as it is drawn, and knows the truth."""

from __future__ import annotations

from typing import Any, Protocol

from tests.faults.drawn import Drawn
from tests.faults.reader import Reader


class Aspect(Protocol):
    """One kind of metric and what it must show."""

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Metric key → spec."""

    def experiments(self) -> dict[str, dict[str, Any]]:
        """Experiment key → spec."""

    def add(self, event: Drawn) -> None:
        """Takes an event before it is sent for the first time."""

    async def differences(self, reader: Reader) -> list[str]:
        """Where what can be read is not the truth, in words; nothing if all is exact."""


def compared(what: str, expected: dict[Any, Any], found: dict[Any, Any]) -> list[str]:
    """The places at which two dictionaries differ."""
    return [
        f"{what} {place}: expected {expected.get(place)}, found {found.get(place)}"
        for place in sorted(expected.keys() | found.keys(), key=repr)
        if expected.get(place) != found.get(place)
    ]

"""Progress of a benchmark: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Completed = Callable[[int], None]
"""Told how much of the whole is done by now."""


class Bars:
    """One bar at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def showing(self, title: str, total: int | None = None) -> Iterator[Completed]:
        """Around a step of `total` events, or of a length that nobody knows."""
        if not self._console.is_terminal:
            self._console.print(title, highlight=False, soft_wrap=True)
            yield lambda _: None
            return
        counted = () if total is None else (BarColumn(), MofNCompleteColumn())
        columns = (SpinnerColumn(), TextColumn("{task.description}"), *counted, TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(title, total=total)
            yield lambda completed: progress.update(task, completed=completed)

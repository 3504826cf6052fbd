"""Draws a starting stack: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from deploy.local.process import ProcessState, ProcessStatus


class ConsoleReporter:
    """A `deploy.local.reporter.Reporter` on a rich console, and a context manager around the time it draws."""

    def __init__(self, console: Console) -> None:
        self._console = console
        spinner, text, elapsed = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._download = Progress(spinner, text, BarColumn(), DownloadColumn(), elapsed, console=console)
        self._steps = Progress(spinner, text, elapsed, console=console, transient=True)
        self._processes = Progress(
            spinner, text, BarColumn(), MofNCompleteColumn(), elapsed, console=console, transient=True
        )
        self._drawing: Progress | None = None
        self._process_task: TaskID | None = None
        self._live = console.is_terminal
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Stops drawing; what is said afterwards is plain text."""
        self._draw(None)

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def downloading(self, size: int) -> Iterator[Callable[[int], None]]:
        title = "Downloading Kafka (once)"
        if not self._live:
            self.say(f"{title}: {size / 1e6:.0f} MB")
            yield lambda _: None
            return
        task = self._download.add_task(title, total=size)
        self._draw(self._download)
        yield lambda received: self._download.advance(task, received)
        self._download.update(task, completed=size)
        self._draw(None)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        if not self._live:
            self.say(text)
            yield
            return
        task = self._steps.add_task(text)
        if self._drawing is None:
            self._draw(self._steps)
        yield
        self._steps.remove_task(task)
        if self._drawing is self._steps and not self._steps.tasks:
            self._draw(None)

    def processes(self, statuses: Sequence[ProcessStatus]) -> None:
        if not self._live or not statuses:
            return
        pending = [status.name for status in statuses if status.state is not ProcessState.READY]
        waiting = f"Starting: waiting for {', '.join(pending)}" if pending else "Everything is ready"
        completed, total = len(statuses) - len(pending), len(statuses)
        if self._process_task is None:
            self._process_task = self._processes.add_task(waiting, total=total)
            self._draw(self._processes)
        self._processes.update(self._process_task, description=waiting, completed=completed)

    def _draw(self, progress: Progress | None) -> None:
        """Only one live display can be on a terminal."""
        with self._lock:
            if self._drawing is progress:
                return
            if self._drawing is not None:
                self._drawing.stop()
            self._drawing = progress
            if progress is not None:
                progress.start()

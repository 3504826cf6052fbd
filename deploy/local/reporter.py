"""Whom the stack tells what it is doing; the command line draws it, tests keep quiet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from deploy.local.process import ProcessStatus


class Reporter(Protocol):
    def say(self, text: str) -> None:
        """One thing the user should know."""

    def downloading(self, size: int) -> AbstractContextManager[Callable[[int], None]]:
        """Around a download of `size` bytes; what it yields is told of every further part, from any thread."""

    def working(self, text: str) -> AbstractContextManager[None]:
        """Around a step that takes a while."""

    def processes(self, statuses: Sequence[ProcessStatus]) -> None:
        """After every change of any process's state."""


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None: ...

    def downloading(self, size: int) -> AbstractContextManager[Callable[[int], None]]:
        return nullcontext(lambda _: None)

    def working(self, text: str) -> AbstractContextManager[None]:
        return nullcontext()

    def processes(self, statuses: Sequence[ProcessStatus]) -> None: ...

"""Telemetry must never be the reason why a request fails."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from tidegate.telemetry.stats import Drop, Tally

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class _Counted(Protocol):
    @property
    def tally(self) -> Tally: ...


S = TypeVar("S", bound=_Counted)


def harmless(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """A call that fails is counted as an unusable event, and told in the log the first time."""

    @functools.wraps(method)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            self.tally.record()
            if self.tally.drop(Drop.UNUSABLE) == 1:
                logger.exception("telemetry could not be recorded; the next such failures are only counted")

    return guarded

"""When a process that died starts again: an exponential back-off that forgets after a healthy while."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    AGAIN = "again"
    GIVE_UP = "gave up before it was ever ready"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Delays in seconds. `attempts` bounds only the deaths before a process was ready for the first time."""

    first_delay: float = 0.1
    factor: float = 2.0
    longest_delay: float = 10.0
    healthy_after: float = 20.0
    attempts: int = 6


@dataclass(frozen=True, slots=True)
class Failures:
    """Deaths in a row, and whether the process has ever been ready under this supervisor."""

    in_a_row: int = 0
    was_ready: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    delay: float
    failures: Failures


def after_death(policy: RestartPolicy, failures: Failures, ready_for: float | None) -> Decision:
    """What to do now that the process died, `ready_for` seconds after it became ready (None: it never was).

    A process that was healthy long enough starts with a clean record.
    """
    was_ready = failures.was_ready or ready_for is not None
    healthy = ready_for is not None and ready_for >= policy.healthy_after
    in_a_row = 1 if healthy else failures.in_a_row + 1
    after = Failures(in_a_row, was_ready)
    if not was_ready and in_a_row >= policy.attempts:
        return Decision(Verdict.GIVE_UP, 0.0, after)
    delay = min(policy.first_delay * policy.factor ** min(in_a_row - 1, 64), policy.longest_delay)
    return Decision(Verdict.AGAIN, delay, after)

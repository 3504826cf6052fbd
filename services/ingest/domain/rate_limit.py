"""How many events a key may send: a token bucket that may be overdrawn once, and is then refilled before any more.

    events_per_second ──► ▕█████   ▏ burst      a batch is let in while there is one event in it, and takes all of
                                                its own out: what it overdraws is waited for by whoever comes next

So a batch larger than the bucket passes, small ones do not starve it, and over time no more than the rate comes in:
in any `t` seconds at most `burst + events_per_second × t` events, and the one batch that overdrew it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.keys import RateLimit


@dataclass(frozen=True, slots=True)
class Balance:
    """What the bucket held at the time `at`, in seconds of any clock that only goes forward; below 0 it is owed."""

    events: float
    at: float


@dataclass(frozen=True, slots=True)
class Allowed:
    """The events may come in, and leave this balance."""

    balance: Balance


@dataclass(frozen=True, slots=True)
class Wait:
    """None may come in yet: in so many seconds, if nobody else comes before."""

    seconds: float


def charged(balance: Balance | None, limit: RateLimit, events: int, now: float) -> Allowed | Wait:
    """Takes `events` out. None is the balance of a key that has not sent anything yet."""
    held = refilled(balance, limit, now)
    if held.events < 1 - _ROUNDING:
        return Wait((1 - held.events) / limit.events_per_second)
    return Allowed(Balance(held.events - events, held.at))


def given_back(balance: Balance | None, limit: RateLimit, events: int, now: float) -> Balance:
    """For events that were charged and then not stored."""
    held = refilled(balance, limit, now)
    return Balance(min(held.events + events, limit.burst), held.at)


def refilled(balance: Balance | None, limit: RateLimit, now: float) -> Balance:
    """The balance now; of a limit that has changed, no more than its bucket holds."""
    if balance is None:
        return Balance(limit.burst, now)
    since = max(0.0, now - balance.at)  # another process may have looked at the clock a moment later
    return Balance(min(balance.events + since * limit.events_per_second, limit.burst), balance.at + since)


def retry_after(seconds: float, chance: float) -> int:
    """Whole seconds to tell a client: never too early, and spread by `chance` (0 to 1) so that not all who share a
    key come at once."""
    return math.ceil(seconds + chance * max(1.0, _SPREAD * seconds))


_SPREAD = 0.25
"""Of the time to wait: what it may be longer at most."""
_ROUNDING = 1e-9
"""Of an event: who has waited as long as was said comes in."""

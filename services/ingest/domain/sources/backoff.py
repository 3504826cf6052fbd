"""How long a source that failed waits before it tries again."""

from __future__ import annotations

FIRST = 0.5
LONGEST = 60.0


def delay(failures: int, chance: float, asked: float = 0.0) -> float:
    """Seconds after so many failures in a row (from 1): doubling up to a minute, each time half of it by `chance`.

    `chance` is drawn from 0 to 1, so that sources that failed together do not come back together. `asked` is what
    the far end asked for; at least so long it is left alone, within an hour.
    """
    longest = min(LONGEST, FIRST * 2.0 ** min(failures - 1, 16))
    return max(longest * (0.5 + chance / 2), min(asked, 3_600.0))

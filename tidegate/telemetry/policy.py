"""How much is kept, how often it is sent, and what is not told at all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """Durations are in seconds, sizes in bytes."""

    max_events: int = 10_000
    max_bytes: int = 8 * 1024 * 1024
    """So much waits for the platform at most; what comes then is dropped."""
    batch_events: int = 500
    batch_bytes: int = 1024 * 1024
    linger: float = 0.2
    """How long the first event of a batch waits for company."""
    timeout: float = 10.0
    """For one request."""
    first_pause: float = 0.5
    longest_pause: float = 30.0
    """Between attempts; doubled each time, and with jitter."""
    give_up: float = 1_800.0
    """After the first attempt: later, the platform might no longer know an event that it has already counted."""
    exit_deadline: float = 2.0
    """How long the end of the process may wait for what has not been sent."""
    progress: float = 0.0
    """Share of progress that is told: 0 none, 0.1 every tenth call, 1 all."""
    throttle_interval: float = 10.0
    """A connection's throttled messages are told at most so often, by their number."""

"""Tells on the terminal how far a run is."""

from __future__ import annotations

import time


class Progress:
    """Lines with the seconds since the beginning; pytest shows them with `-s`."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {what}", flush=True)

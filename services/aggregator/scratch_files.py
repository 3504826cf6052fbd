"""Files that hold what a worker can load again: they have no name, and are gone with their last user."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence


class ScratchError(Exception):
    """The disk does not take or give back what it should. A restart loads everything again from Postgres."""

    def __init__(self, directory: str | None, why: object) -> None:
        where = "the system's temporary directory" if directory is None else directory
        super().__init__(
            f"cannot keep event ids in {where}: {why}. Let TIDEGATE_SCRATCH name a directory that this worker may "
            "write to, on a disk with 2 GB to spare for each 20,000 events per second"
        )


class ScratchFiles:
    """Makes files in a directory, by default the system's temporary one."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    def check(self) -> None:
        """Raises ScratchError if nothing can be written there now."""
        file = self.create()
        file.append(memoryview(b"scratch"))
        file.read([0], [7])

    def create(self) -> ScratchFile:
        """Raises ScratchError."""
        return ScratchFile(self._directory)


class ScratchFile:
    """Implements `domain.id_runs.RunFile`. All methods raise ScratchError."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        try:
            self._file = tempfile.TemporaryFile(dir=directory, prefix="tidegate-", buffering=0)  # noqa: SIM115  # __del__
        except OSError as error:
            raise ScratchError(directory, error) from error

    def append(self, data: memoryview) -> None:
        rest = data
        try:
            while len(rest):
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise ScratchError(self._directory, error) from error

    def read(self, offsets: Sequence[int], sizes: Sequence[int]) -> bytes:
        descriptor, pread = self._file.fileno(), os.pread
        try:
            found = b"".join([pread(descriptor, size, at) for size, at in zip(sizes, offsets, strict=True)])
        except OSError as error:
            raise ScratchError(self._directory, error) from error
        if len(found) != sum(sizes):
            raise ScratchError(self._directory, f"{sum(sizes)} bytes were written and {len(found)} can be read")
        return found

    def __del__(self) -> None:
        if file := getattr(self, "_file", None):
            file.close()

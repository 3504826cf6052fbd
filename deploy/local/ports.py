"""Ports: chosen once, kept from start to start, chosen again only when somebody else took them."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Below the range from which the kernel takes the local ends of outgoing connections.
_LOWEST, _HIGHEST = 18_000, 30_000
_SLICES = 16

_LISTENING = "0A"


class NoFreePortError(Exception):
    """Every candidate was taken."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`ports` by name; `moved` names those that had a port which is now taken, with that port."""

    ports: Mapping[str, int]
    moved: Mapping[str, int]


def choose_ports(
    names: Sequence[str],
    kept: Mapping[str, int],
    is_free: Callable[[int], bool],
    candidates: Iterator[int],
) -> Choice:
    """Keeps what is kept and free, and gives every other name the next free candidate, each port once.

    Kept ports of names not asked for stay reserved. Raises `NoFreePortError` when the candidates run out.
    """
    ports: dict[str, int] = {name: kept[name] for name in names if name in kept and is_free(kept[name])}
    moved = {name: kept[name] for name in names if name in kept and name not in ports}
    reserved = set(kept.values()) | set(ports.values())
    for name in names:
        if name in ports:
            continue
        for candidate in candidates:
            if candidate not in reserved and is_free(candidate):
                ports[name] = candidate
                reserved.add(candidate)
                break
        else:
            raise NoFreePortError(f"no free port for {name}")
    return Choice(ports={name: ports[name] for name in names}, moved=moved)


def random_candidates(count: int = 500, *, process: int | None = None) -> Iterator[int]:
    """Random, so that two stacks starting at the same moment hardly meet: what both find free, both would take.

    Processes with neighbouring ids, such as those that run tests side by side, draw from different ports; `process`
    is our own id by default.
    """
    size = (_HIGHEST - _LOWEST) // _SLICES
    lowest = _LOWEST + (os.getpid() if process is None else process) % _SLICES * size
    return iter(random.sample(range(lowest, lowest + size), count))


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now; connections of an ended server that linger do not count."""
    return refusal_of(port, host) is None


def refusal_of(port: int, host: str = "127.0.0.1") -> OSError | None:
    """What the system says to a server that wants to listen there; None if it lets it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def holder_of(port: int) -> str | None:
    """Who listens on a TCP port, as `name (pid N)`, as far as this user may see (Linux only)."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            for descriptor in descriptors.iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in sockets:
                        process = descriptors.parent
                        name = (process / "comm").read_text(encoding="utf-8").strip()
                        return f"{name} (pid {process.name})"
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]

"""A connection of the load: one request at a time, whole answers, nothing that waits."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httptools

_BUFFER = 4 * 1024 * 1024
_READ = 262_144


class Connections:
    """As many as are opened, with one epoll for all; those that the other side has closed count too."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._epoll = select.epoll()
        self._by_file: dict[int, Connection] = {}
        self.closed = 0
        """How many the other side has closed while it owed nothing."""

    def __len__(self) -> int:
        return len(self._by_file)

    def open(self) -> Connection:
        """Raises OSError."""
        connection = Connection(self._address, self._epoll)
        self._by_file[connection.file] = connection
        return connection

    def answered(self, patience: float) -> Iterator[Connection]:
        """Those whose answer is complete by now; waits at most `patience` seconds for the first to do anything.

        Raises OSError when one goes away, HttpParserError for what is no answer.
        """
        for file, events in self._epoll.poll(patience):
            connection = self._by_file[file]
            if events & select.EPOLLOUT:
                connection.send_rest()
            if events & ~select.EPOLLOUT and connection.receive():
                yield connection
            self.closed += connection.is_closed

    def close(self) -> None:
        self._epoll.close()
        for connection in self._by_file.values():
            connection.socket.close()


class Connection:
    """`since` is the sender's: the moment from which a request's latency counts."""

    def __init__(self, address: tuple[str, int], epoll: select.epoll) -> None:
        self.socket = socket.create_connection(address)
        self.file = self.socket.fileno()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self.socket.setblocking(False)
        self.since = 0.0
        self.number = 0
        self.is_closed = False
        self._parser = httptools.HttpResponseParser(self)
        self._is_answered = False
        self._rest = memoryview(b"")
        self._epoll = epoll
        epoll.register(self.file, select.EPOLLIN)

    @property
    def status(self) -> int:
        return self._parser.get_status_code()

    def send(self, request: bytes, number: int, since: float) -> None:
        """What the socket does not take at once follows when it can: a slow reader holds up nobody else."""
        self.number, self.since = number, since
        self._is_answered = False
        sent = self.socket.send(request)
        if sent < len(request):
            self._rest = memoryview(request)[sent:]
            self._epoll.modify(self.file, select.EPOLLIN | select.EPOLLOUT)

    def send_rest(self) -> None:
        self._rest = self._rest[self.socket.send(self._rest) :]
        if not self._rest:
            self._epoll.modify(self.file, select.EPOLLIN)

    def receive(self) -> bool:
        """Whether the answer is complete. Raises OSError when the other side goes away and owes one."""
        data = self.socket.recv(_READ)
        if not data:
            if not self._is_answered:
                raise ConnectionResetError("the server closed a connection on which a request waits")
            self._epoll.unregister(self.file)  # sending on it will fail
            self.is_closed = True
            return False
        self._parser.feed_data(data)
        return self._is_answered

    def on_message_complete(self) -> None:
        self._is_answered = True


@contextmanager
def connections(address: tuple[str, int]) -> Iterator[Connections]:
    opened = Connections(address)
    try:
        yield opened
    finally:
        opened.close()

"""One WebSocket connection, from the server's side."""

from __future__ import annotations

from types import TracebackType

from tidegate.telemetry.guard import harmless
from tidegate.telemetry.policy import Policy
from tidegate.telemetry.scope import MAX_NAME, Recorder, Subject, error_fields, milliseconds
from tidegate.telemetry.stats import Tally
from tidegate.telemetry.traffic import Traffic

_PINGS = 16
"""So many unanswered pings are remembered."""
_NORMAL = frozenset({1000, 1001})


class Connection:
    """Made by `Telemetry.connection` or `Job.connection`. To be used by one thread, or event loop, at a time.

    As a context manager it is connected on entry and disconnected at the end, cleanly if there was no exception.
    """

    def __init__(
        self, recorder: Recorder, tally: Tally, policy: Policy, subject: Subject, job: Traffic | None
    ) -> None:
        self.tally = tally
        self.traffic = Traffic()
        self._recorder = recorder
        self._policy = policy
        self._subject = subject
        self._job = job
        self._began = recorder.monotonic()
        self._throttled = 0
        self._throttled_told = -float("inf")
        self._pings: dict[int, float] = {}
        self._nonce = 0
        self._over = False

    def __enter__(self) -> Connection:
        self.connected()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if not self._over:
            self.disconnected(1000 if kind is None else 1011)

    @harmless
    def connected(self) -> None:
        self._begin()
        self._tell("websocket_connected", {"pipeline": self._subject.pipeline})

    @harmless
    def reconnected(self, reconnect_count: int | None = None) -> None:
        """Instead of `connected`, if the client was here before; by default once more than this object knows of."""
        count = self.traffic.reconnects + 1 if reconnect_count is None else reconnect_count
        self._begin()
        self.traffic.reconnects = count
        if self._job is not None:
            self._job.reconnects = max(self._job.reconnects + 1, count)
        self._tell("websocket_reconnected", {"pipeline": self._subject.pipeline, "reconnectCount": count})

    @harmless
    def failed(self, error: object, code: str | None = None) -> None:
        """The connection did not come about."""
        self._over = True
        fields: dict[str, object] = {"pipeline": self._subject.pipeline, "error": str(error)[:2_000]}
        self._tell("websocket_failed", fields if code is None else {**fields, "errorCode": code[:MAX_NAME]})

    @harmless
    def disconnected(self, code: int | None = None, *, clean: bool | None = None) -> None:
        """`code` is the WebSocket close code; by default 1000 and 1001 are clean ends."""
        self._over = True
        self._tell_throttled()
        fields = {
            "pipeline": self._subject.pipeline,
            "connectionDuration": milliseconds(self._recorder.monotonic() - self._began),
            "clean": code in _NORMAL if clean is None else clean,
            **self.traffic.fields(),
        }
        self._tell("websocket_disconnected", fields if code is None else {**fields, "closeCode": code})

    @harmless
    def sent(self, size: int) -> None:
        """A message of so many bytes went to the client. Only counted."""
        for traffic in (self.traffic, self._job):
            if traffic is not None:
                traffic.sent += 1
                traffic.sent_bytes += size

    @harmless
    def received(self) -> None:
        """A message came from the client. Only counted."""
        for traffic in (self.traffic, self._job):
            if traffic is not None:
                traffic.received += 1

    @harmless
    def throttled(self, messages: int = 1) -> None:
        """Messages were held back or merged: counted, and told once in a while by their number."""
        self._throttled += messages
        for traffic in (self.traffic, self._job):
            if traffic is not None:
                traffic.throttled += messages
        now = self._recorder.monotonic()
        if now - self._throttled_told >= self._policy.throttle_interval:
            self._throttled_told = now
            self._tell_throttled()

    @harmless
    def heartbeat(self, rtt_ms: float) -> None:
        """A ping was answered after so many milliseconds, by one clock."""
        subject = self._subject
        self._recorder.note("websocket_heartbeat", {"pipeline": subject.pipeline, "rttMs": rtt_ms}, subject)

    def ping(self) -> int:
        """A nonce for the client to echo: `pong` with it records the heartbeat."""
        self._nonce += 1
        self._pings[self._nonce] = self._recorder.monotonic()
        if len(self._pings) > _PINGS:
            del self._pings[next(iter(self._pings))]
        return self._nonce

    @harmless
    def pong(self, nonce: int) -> None:
        """A nonce that is not known, or came before, says nothing."""
        sent_at = self._pings.pop(nonce, None)
        if sent_at is not None:
            self.heartbeat(milliseconds(self._recorder.monotonic() - sent_at))

    @harmless
    def error(self, code: str, *, provider: str | None = None, retryable: bool = False) -> None:
        self._tell("websocket_error", error_fields(self._subject.pipeline, code, provider, retryable))

    def _begin(self) -> None:
        """Each connection has its own clock and traffic; the job's go on."""
        if self._over:
            self.traffic = Traffic()
        self._over = False
        self._began = self._recorder.monotonic()

    def _tell_throttled(self) -> None:
        messages, self._throttled = self._throttled, 0
        if messages:
            fields = {"pipeline": self._subject.pipeline, "throttledMessages": messages}
            self._tell("websocket_throttled", fields)

    def _tell(self, event_type: str, fields: dict[str, object]) -> None:
        self._recorder.note(event_type, fields, self._subject)

"""What went over a connection, or over all of a job's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Traffic:
    """Messages and bytes to the client, messages from it, those held back by a throttle, and its returns."""

    sent: int = 0
    sent_bytes: int = 0
    received: int = 0
    throttled: int = 0
    reconnects: int = 0

    def fields(self) -> dict[str, Any]:
        """As `websocket_disconnected`, `websocket_job_completed` and `websocket_job_failed` tell it."""
        return {
            "messageCount": self.sent,
            "messagesReceived": self.received,
            "messagesSentBytes": self.sent_bytes,
            "averageMessageSize": self.sent_bytes / self.sent if self.sent else 0.0,
            "throttledMessages": self.throttled,
            "reconnectCount": self.reconnects,
        }

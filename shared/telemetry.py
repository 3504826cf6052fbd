"""Structured logs on stderr, one JSON object a line, and the Prometheus text a service shows."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import Any

import orjson

from shared.clock import system_clock, to_iso

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`logger.info("text", extra={...})`: the extra fields stand beside time, level, logger and message."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": to_iso(system_clock()),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((k, v) for k, v in vars(record).items() if k not in _STANDARD)
        if record.exc_info and record.exc_info[1]:
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # lone surrogates, integers beyond 64 bits: no line is lost for what it quotes
            return json.dumps({k: v if isinstance(v, str) else repr(v) for k, v in line.items()})


def configure_logging(service: str, level: str = "INFO") -> None:
    """Sends every logger of the process through `JsonFormatter`; libraries only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Its clients report each failed attempt to connect, dozens a second; whoever waits for Kafka says so itself.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    for ours in ("services", "shared", "tidegate", "deploy"):
        logging.getLogger(ours).setLevel(level)

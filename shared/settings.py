"""A service's settings: the only place, with each `__main__`, that reads the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_PROCESSES = 256
"""More than any machine has cores for."""
MIN_EVENTS_PER_SECOND = 0.01
MAX_EVENTS_PER_SECOND = 1e9
"""Bounds of every rate that a key may be given."""


class SettingsError(Exception):
    """A variable is missing or malformed; the message names it and says what it should hold."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a service finds its neighbours and where it listens.

    Environment: `TIDEGATE_KAFKA` (bootstrap servers, comma-separated), `TIDEGATE_POSTGRES` (a postgresql:// URL),
    `TIDEGATE_HOST` and `TIDEGATE_PORT` (HTTP), `TIDEGATE_LOG_LEVEL`, `TIDEGATE_INSTANCE` (a stable name of
    this process among its like, for static group membership), `TIDEGATE_BOOTSTRAP_KEYS` (assignment
    only: a JSON file `{"admin", "ingest", "read"}` of keys to know from the start), `TIDEGATE_SEALING_KEYS` (ingest
    only: a file of the keys that seal secrets at rest, see `shared.sealing`), `TIDEGATE_PROCESSES` (ingest only: how
    many processes share its port, by default 1), `TIDEGATE_KEY_EVENTS_PER_SECOND` (ingest only: how many events
    may be sent with a key that has no limit of its own; any number if it is not set) and `TIDEGATE_SCRATCH` (the
    aggregator's worker only: a directory for files that need not last; else the system's temporary one).
    """

    kafka: str
    postgres: str
    host: str
    port: int
    log_level: str
    instance: str
    bootstrap_keys: str | None
    scratch: str | None = None
    sealing_keys: str | None = None
    processes: int = 1
    key_events_per_second: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises `SettingsError`."""
        port = environ.get("TIDEGATE_PORT", "8000")
        if not port.isdigit() or int(port) > 65535:
            raise SettingsError(f"TIDEGATE_PORT must be a port number, not {port!r}")
        processes = environ.get("TIDEGATE_PROCESSES", "1")
        if not (processes.isascii() and processes.isdigit() and 1 <= int(processes) <= MAX_PROCESSES):
            raise SettingsError(f"TIDEGATE_PROCESSES must be 1 to {MAX_PROCESSES}, not {processes!r}")
        return cls(
            kafka=_required(environ, "TIDEGATE_KAFKA", "bootstrap servers such as kafka:9092"),
            postgres=_required(environ, "TIDEGATE_POSTGRES", "a URL such as postgresql://user:pw@host/db"),
            host=environ.get("TIDEGATE_HOST", "127.0.0.1"),
            port=int(port),
            log_level=environ.get("TIDEGATE_LOG_LEVEL", "INFO").upper(),
            instance=environ.get("TIDEGATE_INSTANCE", "0"),
            bootstrap_keys=environ.get("TIDEGATE_BOOTSTRAP_KEYS"),
            scratch=environ.get("TIDEGATE_SCRATCH") or None,
            sealing_keys=environ.get("TIDEGATE_SEALING_KEYS") or None,
            processes=int(processes),
            key_events_per_second=_rate(environ, "TIDEGATE_KEY_EVENTS_PER_SECOND"),
        )


def _rate(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name, "")
    if not text:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not MIN_EVENTS_PER_SECOND <= rate <= MAX_EVENTS_PER_SECOND:
        raise SettingsError(
            f"{name} must be a number from {MIN_EVENTS_PER_SECOND:g} to {MAX_EVENTS_PER_SECOND:,.0f}, not {text!r}"
        )
    return rate


def _required(environ: Mapping[str, str], name: str, what: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set: it must hold {what}")
    return value

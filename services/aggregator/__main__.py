"""`python -m services.aggregator worker` folds events; `python -m services.aggregator api` answers questions."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import uvloop

from services.aggregator.api import run_api
from services.aggregator.worker import run_worker
from shared.clock import system_clock
from shared.settings import Settings, SettingsError
from shared.telemetry import configure_logging

_ROLES = {"worker": run_worker, "api": run_api}


def main() -> int:
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in _ROLES:
        print("usage: python -m services.aggregator worker|api", file=sys.stderr)
        return 2
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(f"aggregator-{role}", settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_ROLES[role](settings, system_clock))
    except KeyboardInterrupt:
        return 0
    except Exception:
        logging.getLogger("services.aggregator").exception("the %s stops", role)
        return 1
    return 0


if __name__ == "__main__":
    # Threads of libraries must not keep a process alive that has said goodbye.
    code = main()
    logging.shutdown()
    os._exit(code)

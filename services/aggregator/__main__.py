"""`python -m services.aggregator worker` folds events; `python -m services.aggregator api` answers questions.

`python -m services.aggregator adopt-log` is for operators: it accepts a log that the worker refuses.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import uvloop
from aiokafka.errors import KafkaError

from services.aggregator.api import run_api
from services.aggregator.log_adoption import EXAMPLES, HELP, ShardMovedError, Start, adopt_log
from services.aggregator.worker import run_worker
from shared.clock import system_clock
from shared.postgres import RETRYABLE
from shared.settings import Settings, SettingsError
from shared.telemetry import configure_logging

_PROGRAM = "python -m services.aggregator"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM)
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("worker", help="fold events")
    roles.add_parser("api", help="answer questions")
    adopting = roles.add_parser(
        "adopt-log",
        help="accept a log that the worker refuses",
        description=HELP,
        epilog="examples:\n" + "\n".join(f"  {_PROGRAM} {line}\n      {what}" for line, what in EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    adopting.add_argument("--partition", type=int, action="append", default=[], help="only this one; repeatable")
    adopting.add_argument("--from", dest="start", choices=[s.value for s in Start], help="where to go on")
    adopting.add_argument("--yes", action="store_true", help="do it")
    return parser


async def _adopt(arguments: argparse.Namespace, settings: Settings) -> int:
    try:
        return await adopt_log(
            settings.kafka,
            settings.postgres,
            partitions=arguments.partition,
            start=None if arguments.start is None else Start(arguments.start),
            confirmed=arguments.yes,
            clock=system_clock,
            say=print,
        )
    except (ShardMovedError, KafkaError, *RETRYABLE) as error:
        print(f"adopt-log failed: {error}", file=sys.stderr)
        return 1


async def _serve(run: Callable[..., Coroutine[Any, Any, None]], settings: Settings) -> int:
    await run(settings, system_clock)
    return 0


def main() -> int:
    arguments = _arguments().parse_args()
    role: str = arguments.role
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logging(f"aggregator-{role}", settings.log_level)
    runs = {
        "worker": partial(_serve, run_worker),
        "api": partial(_serve, run_api),
        "adopt-log": partial(_adopt, arguments),
    }
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(runs[role](settings))
    except KeyboardInterrupt:
        return 0
    except Exception:
        logging.getLogger("services.aggregator").exception("the %s stops", role)
        return 1


if __name__ == "__main__":
    # Threads of libraries must not keep a process alive that has said goodbye.
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)

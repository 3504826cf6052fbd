"""`tidegate adopt-log`: accepts a log of events that the aggregator's worker refuses."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from deploy.local.children import ProgramError
from deploy.local.stack import StackError
from deploy.local.state import StateDirectory, StateError
from services.aggregator.log_adoption import ShardMovedError, Start, adopt_log
from shared.clock import system_clock
from shared.postgres import RETRYABLE
from tidegate.backends import Kafka, Postgres, backends
from tidegate.options import DEFAULT_STATE, State


def register(app: typer.Typer) -> None:
    app.command("adopt-log")(adopt)


def adopt(
    partition: Annotated[list[int] | None, typer.Option(help="Only this partition. May be repeated.")] = None,
    start: Annotated[Start | None, typer.Option("--from", help="Where in the log to go on.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, nothing is changed.")] = False,
    kafka: Kafka = None,
    postgres: Postgres = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Accept that a partition's log is not the one that was counted, and go on with it.

    The aggregator refuses a log that was wiped, restored or replaced, or whose retention has deleted records that
    were never counted. Without `--yes` this only tells, for each partition, what is wrong and what would be given up.
    What was given up stays in the table `aggregator.accepted_losses`. Healthy partitions are never touched. The local
    stack may be up or down.

    **Examples**

    - `tidegate adopt-log` tells what is wrong, and with which partitions
    - `tidegate adopt-log --from beginning --yes` counts all that the log holds: retention has deleted records, or the
      log is new
    - `tidegate adopt-log --from end --yes` counts nothing that it holds: it was restored from a backup
    - `tidegate adopt-log --partition 2 --from beginning --yes`
    """
    console = Console(highlight=False, soft_wrap=True)

    async def run() -> int:
        async with backends(StateDirectory(state), kafka, postgres) as (bootstrap, url):
            return await adopt_log(
                bootstrap,
                url,
                partitions=partition or (),
                start=start,
                confirmed=yes,
                clock=system_clock,
                say=lambda text: console.print(text, markup=False),
            )

    try:
        code = asyncio.run(run())
    except (StateError, StackError, ProgramError, ShardMovedError, KafkaError, *RETRYABLE) as error:
        Console(stderr=True).print(
            f"tidegate adopt-log failed: {error}", style="bold red", highlight=False, soft_wrap=True
        )
        raise typer.Exit(1) from error
    raise typer.Exit(code)

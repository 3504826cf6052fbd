"""`tidegate replay`: has the aggregator count the whole log anew."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from deploy.local.children import ProgramError
from deploy.local.migrations import migrate
from deploy.local.stack import StackError
from deploy.local.state import StateDirectory, StateError
from services.aggregator.event_log import EventLog
from services.aggregator.replay import StillRunningError, forget, look
from shared import topics
from shared.postgres import RETRYABLE, create_pool, wait_until_ready
from tidegate.backends import Kafka, Postgres, backends
from tidegate.options import DEFAULT_STATE, State


def register(app: typer.Typer) -> None:
    app.command()(replay)


def replay(
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, nothing is changed.")] = False,
    kafka: Kafka = None,
    postgres: Postgres = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Forget all that was counted, so that the next start counts the whole log anew.

    Windows, units, experiments' totals and journeys come out as they were, as far as Kafka still holds the events;
    a metric then has all of its history. Definitions come back from Kafka. Without `--yes` this only tells what the
    log holds. Stop the stack first (or, on a cluster, the aggregator's workers and API); events, assignments, rules
    and alerts are not touched. To give history to a single metric, there is `tidegate backfill`.

    **Examples**

    - `tidegate replay` tells what the log still holds
    - `tidegate down && tidegate replay --yes && tidegate up`
    - `tidegate replay --yes --kafka kafka:9092 --postgres postgresql://tidegate:secret@postgres/tidegate`
    """
    console = Console(highlight=False, soft_wrap=True)

    async def run() -> int:
        async with backends(StateDirectory(state), kafka, postgres) as (bootstrap, url):
            return await _replay(bootstrap, url, yes, console)

    try:
        code = asyncio.run(run())
    except (StateError, StackError, ProgramError, StillRunningError, KafkaError, *RETRYABLE) as error:
        Console(stderr=True).print(
            f"tidegate replay failed: {error}", style="bold red", highlight=False, soft_wrap=True
        )
        raise typer.Exit(1) from error
    raise typer.Exit(code)


async def _replay(kafka: str, postgres: str, confirmed: bool, console: Console) -> int:
    """The exit code: 1 if nothing was changed for want of `--yes`."""
    pool = await create_pool(postgres, name="replay", size=1, schema="aggregator")
    try:
        await wait_until_ready(pool)
        for prospect in await look(pool, EventLog(kafka, topics.EVENTS.name)):
            console.print(str(prospect), markup=False)
        if not confirmed:
            console.print("Nothing was changed. To go on, say --yes.")
            return 1
        await forget(pool)
    finally:
        await pool.close()
    with tempfile.TemporaryDirectory() as directory:
        await migrate(postgres, cwd=Path(directory))
    console.print("The tables are empty. The next start counts the log from its beginning.")
    return 0

"""`tidegate migrate`: migrations and topics for a Kafka and a Postgres that somebody else runs."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from rich.console import Console

from deploy.local.children import ProgramError
from deploy.local.migrations import migrate as apply_migrations
from shared.kafka import create_topics


def register(app: typer.Typer) -> None:
    app.command()(migrate)


def migrate(
    kafka: Annotated[str, typer.Option(envvar="TIDEGATE_KAFKA", help="Bootstrap servers, comma-separated.")],
    postgres: Annotated[str, typer.Option(envvar="TIDEGATE_POSTGRES", help="A postgresql:// URL.")],
    replication_factor: Annotated[
        int, typer.Option(envvar="TIDEGATE_REPLICATION_FACTOR", help="Of topics that do not exist yet.", min=1)
    ] = 1,
) -> None:
    """Bring the database schemas up to date and create the topics that are missing. Safe to repeat.

    `tidegate up` does this by itself; this is for docker-compose, Kubernetes and clusters of your own.

    **Examples**

    - `tidegate migrate --kafka kafka:9092 --postgres postgresql://tidegate:secret@postgres/tidegate`
    - `TIDEGATE_KAFKA=… TIDEGATE_POSTGRES=… tidegate migrate --replication-factor 3`
    """

    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            await apply_migrations(postgres, cwd=Path(directory))
        await create_topics(kafka, replication_factor=replication_factor)

    console = Console(stderr=True)
    try:
        asyncio.run(run())
    except (ProgramError, KafkaError, OSError) as error:
        console.print(f"tidegate migrate failed: {error}", style="bold red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    console.print("Schemas and topics are up to date.", highlight=False)

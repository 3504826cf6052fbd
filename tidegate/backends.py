"""Kafka and Postgres for commands that work on them directly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from deploy.local import postgres as local_postgres
from deploy.local.migrations import migrate
from deploy.local.stack import LocalStack
from deploy.local.state import StateDirectory, StateError
from shared.kafka import create_topics

Kafka = Annotated[str | None, typer.Option(envvar="TIDEGATE_KAFKA", help="By default that of the local stack.")]
Postgres = Annotated[str | None, typer.Option(envvar="TIDEGATE_POSTGRES", help="By default that of the local stack.")]


@asynccontextmanager
async def backends(
    directory: StateDirectory, kafka: str | None, postgres: str | None
) -> AsyncIterator[tuple[str, str]]:
    """Bootstrap servers and database: as given, else those of the local stack, which start if need be.

    Raises StateError, StackError or ProgramError.
    """
    if kafka and postgres:
        yield kafka, postgres
        return
    ports = directory.read().ports
    if not ports:
        raise StateError(f"no stack has run on {directory.path} yet: say --kafka and --postgres, or --state")
    if directory.is_locked():
        password = directory.password_file.read_text(encoding="ascii").strip()
        url = local_postgres.url(password=password, port=ports["postgres"])
        yield kafka or f"127.0.0.1:{ports['kafka']}", postgres or url
        return
    async with LocalStack(directory.path, processes="infrastructure") as stack:
        await migrate(stack.postgres, cwd=directory.path)
        await create_topics(stack.kafka)
        yield kafka or stack.kafka, postgres or stack.postgres

"""Imports one CSV file into Postgres: map, validate, COPY in batches, all in one transaction."""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import polars as pl

from examples.imports.domain.datasets import DATASETS, Dataset
from examples.imports.domain.events import FAILED, ImportOutcome
from examples.imports.domain.mapping import FieldMapping, propose
from examples.imports.domain.validation import Fault, Validated, validate
from shared.postgres import Connection, Pool

SCHEMA = "imports"
BATCH_RECORDS = 2_000
READ_ONLY = "target_read_only"
"""The category of an import that the target database refused to write."""

OnProgress = Callable[[int, int], None]
"""(records processed, records in the file), after each batch and before the commit. Raise `ImportCancelledError`
to stop: nothing of the file stays."""
BeforeCommit = Callable[[Connection, ImportOutcome], Awaitable[None]]
"""Runs in the import's transaction, so that what it writes is true exactly if the records are there."""

IsReadOnly = Callable[[], bool]
"""Whether the target tables take no writes now, as after a failover to a standby."""


class ImportCancelledError(Exception):
    """The user gave up; the import was rolled back."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A file to import into its dataset's staging table under `job_id`.

    `again`: an earlier try may have been committed without its answer reaching us; its records are replaced.
    """

    job_id: str
    path: Path
    dataset: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a look at the header and the size of a file tells."""

    size: int
    records: int
    mapping: FieldMapping


async def analyse(path: Path, dataset: str) -> Analysis:
    """Reads the header, counts the lines and proposes a mapping."""
    return await asyncio.to_thread(_analyse, path, DATASETS[dataset])


def _analyse(path: Path, dataset: Dataset) -> Analysis:
    content = path.read_bytes()
    header = content.partition(b"\n")[0].decode().strip()
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    return Analysis(len(content), lines - 1, propose(header.split(","), dataset))


class Importer:
    """Writes into the schema `imports` that `schema.prepare` has created."""

    def __init__(
        self, pool: Pool, *, batch_records: int = BATCH_RECORDS, read_only: IsReadOnly = lambda: False
    ) -> None:
        self._pool = pool
        self._batch_records = batch_records
        self._read_only = read_only

    async def run(
        self, request: ImportRequest, on_progress: OnProgress, before_commit: BeforeCommit | None = None
    ) -> ImportOutcome:
        """Imports the file or leaves no trace. A target that refuses to be written makes the import fail.

        Raises ImportCancelledError, OSError for an unreadable file and `shared.postgres.RETRYABLE`.
        """
        started = time.perf_counter()
        dataset = DATASETS[request.dataset]
        raw, mapping = await asyncio.to_thread(_read, request.path, dataset)
        async with self._pool.acquire() as connection:
            try:
                async with connection.transaction(readonly=self._read_only()):
                    good, faults = await self._write(connection, request, raw, mapping, dataset, on_progress)
                    outcome = _outcome(raw.height, good, [fault.value for fault, _ in faults.most_common()], started)
                    if before_commit is not None:
                        await before_commit(connection, outcome)
            except asyncpg.ReadOnlySQLTransactionError:
                outcome = _outcome(raw.height, 0, [READ_ONLY], started)
                if before_commit is not None:  # the job's own tables can be written
                    async with connection.transaction():
                        await before_commit(connection, outcome)
        return outcome

    async def _write(
        self,
        connection: Connection,
        request: ImportRequest,
        raw: pl.DataFrame,
        mapping: FieldMapping,
        dataset: Dataset,
        on_progress: OnProgress,
    ) -> tuple[int, Counter[Fault]]:
        if request.again:
            await connection.execute(f"DELETE FROM {SCHEMA}.{dataset.table} WHERE job_id = $1", request.job_id)
        if not mapping.missing_required:
            return await self._copy_all(connection, request, raw, dataset, on_progress)
        on_progress(raw.height, raw.height)
        return 0, Counter({Fault.MISSING: raw.height})

    async def _copy_all(
        self,
        connection: Connection,
        request: ImportRequest,
        raw: pl.DataFrame,
        dataset: Dataset,
        on_progress: OnProgress,
    ) -> tuple[int, Counter[Fault]]:
        good = 0
        faults: Counter[Fault] = Counter()
        seen: set[str] = set()
        for start in range(0, raw.height, self._batch_records):
            batch = raw.slice(start, self._batch_records)
            validated, text = await asyncio.to_thread(
                _validate_batch, batch, dataset, first_line=start + 1, seen=seen, job_id=request.job_id
            )
            if text:
                await connection.copy_to_table(
                    dataset.table,
                    schema_name=SCHEMA,
                    source=io.BytesIO(text),
                    columns=["job_id", *(f.name for f in dataset.fields), "line"],
                    format="csv",
                )
            good += validated.good.height
            faults += validated.faults
            seen |= validated.keys
            on_progress(min(start + self._batch_records, raw.height), raw.height)
        return good, faults


def _outcome(processed: int, successful: int, categories: Sequence[str], started: float) -> ImportOutcome:
    return ImportOutcome(
        final_status=final_status(processed=processed, successful=successful),
        records_processed=processed,
        records_successful=successful,
        records_failed=processed - successful,
        total_ms=1000 * (time.perf_counter() - started),
        error_categories=tuple(categories),
    )


def final_status(*, processed: int, successful: int) -> str:
    """S1's three statuses; a file without records is no success."""
    if successful == 0:
        return FAILED
    return "success" if successful == processed else "partial_success"


def _read(path: Path, dataset: Dataset) -> tuple[pl.DataFrame, FieldMapping]:
    """The file's mapped columns as text, under the names of their target fields."""
    raw = pl.read_csv(path, infer_schema=False, truncate_ragged_lines=True)
    mapping = propose(raw.columns, dataset)
    return raw.select(mapping.columns.keys()).rename(dict(mapping.columns)), mapping


def _validate_batch(
    batch: pl.DataFrame, dataset: Dataset, *, first_line: int, seen: set[str], job_id: str
) -> tuple[Validated, bytes]:
    """The verdict and the good records as COPY takes them (CSV, absent cells empty and unquoted)."""
    validated = validate(batch, dataset, first_line=first_line, seen=seen)
    if validated.good.is_empty():
        return validated, b""
    columns = [pl.lit(job_id).alias("job_id"), *(pl.col(f.name) for f in dataset.fields), pl.col("line")]
    text = validated.good.select(columns).write_csv(include_header=False, datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return validated, text.encode()

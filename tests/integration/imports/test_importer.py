"""Files into real Postgres: all of it or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.imports.domain.events import ImportOutcome
from examples.imports.files import write_files
from examples.imports.importer import READ_ONLY, ImportCancelledError, Importer, ImportRequest, analyse
from shared.postgres import Connection, Pool

_HEADER = "tailnum,year,type,manufacturer,model,engines,seats,speed,engine"


def _ignore(processed: int, total: int) -> None:
    """Nobody watches."""


def _planes(path: Path, rows: list[str], header: str = _HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


async def _staged(pool: Pool, job_id: str) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM imports.staging_planes WHERE job_id = $1", job_id)
    return count


async def test_a_real_table_arrives_row_by_row_as_it_stands_in_the_file(pool: Pool, tmp_path: Path) -> None:
    weather = next(f for f in write_files(tmp_path, seed=1) if f.whole_table and f.dataset.name == "weather")
    outcome = await Importer(pool).run(ImportRequest("weather-1", weather.path, "weather"), _ignore)
    # One observation claims 1,048 miles an hour of wind.
    assert (outcome.records_processed, outcome.records_successful, outcome.records_failed) == (26_115, 26_114, 1)
    assert outcome.final_status == "partial_success"
    assert outcome.error_categories == ("value_out_of_range",)
    stored = await pool.fetchrow(
        "SELECT count(*) AS n, min(temp) AS low, max(temp) AS high, count(wind_gust) AS gusts"
        " FROM imports.staging_weather WHERE job_id = 'weather-1'"
    )
    assert dict(stored) == {"n": 26_114, "low": 10.94, "high": 100.04, "gusts": 5_337}


async def test_quotes_commas_newlines_and_unicode_survive(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", ['N1,2001,"wide, ""fast""","Müller\nSöhne",M,2,4,NA,Jet'])
    outcome = await Importer(pool).run(ImportRequest("quoted", path, "planes"), _ignore)
    assert outcome.final_status == "success"
    row = await pool.fetchrow("SELECT * FROM imports.staging_planes WHERE job_id = 'quoted'")
    assert (row["type"], row["manufacturer"], row["speed"]) == ('wide, "fast"', "Müller\nSöhne", None)


async def test_duplicates_are_found_across_batches(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", [f"N{n % 3},2001,t,m,o,2,4,NA,Jet" for n in range(7)])
    outcome = await Importer(pool, batch_records=2).run(ImportRequest("twice", path, "planes"), _ignore)
    assert (outcome.records_successful, outcome.records_failed) == (3, 4)
    assert await _staged(pool, "twice") == 3


async def test_progress_rises_batch_by_batch_to_the_end(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", [f"N{n},2001,t,m,o,2,4,NA,Jet" for n in range(5)])
    seen: list[tuple[int, int]] = []
    request = ImportRequest("watched", path, "planes")
    await Importer(pool, batch_records=2).run(request, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


async def test_a_cancelled_import_leaves_no_record(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", [f"N{n},2001,t,m,o,2,4,NA,Jet" for n in range(5)])

    def stop_at_the_end(processed: int, total: int) -> None:
        if processed == total:
            raise ImportCancelledError

    with pytest.raises(ImportCancelledError):
        await Importer(pool, batch_records=2).run(ImportRequest("cancelled", path, "planes"), stop_at_the_end)
    assert await _staged(pool, "cancelled") == 0


async def test_a_file_without_a_required_column_fails_as_a_whole(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", ["2001,t,m,o,2,4,NA,Jet"], header=_HEADER.partition(",")[2])
    outcome = await Importer(pool).run(ImportRequest("headless", path, "planes"), _ignore)
    assert (outcome.final_status, outcome.records_failed) == ("failed", 1)
    assert outcome.error_categories == ("missing_required_field",)


async def test_a_file_without_records_is_no_success(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", [])
    outcome = await Importer(pool).run(ImportRequest("empty", path, "planes"), _ignore)
    assert (outcome.final_status, outcome.records_processed) == ("failed", 0)


async def test_a_target_that_takes_no_writes_makes_the_import_fail(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", [f"N{n},2001,t,m,o,2,4,NA,Jet" for n in range(5)])
    read_only = True
    importer = Importer(pool, read_only=lambda: read_only)
    told: list[ImportOutcome] = []

    async def tell(connection: Connection, outcome: ImportOutcome) -> None:
        await connection.execute("CREATE TABLE IF NOT EXISTS imports.told (status text)")
        told.append(outcome)

    outcome = await importer.run(ImportRequest("refused", path, "planes"), _ignore, tell)
    assert (outcome.final_status, outcome.records_processed, outcome.records_failed) == ("failed", 5, 5)
    assert outcome.error_categories == (READ_ONLY,)
    assert told == [outcome]
    assert await _staged(pool, "refused") == 0

    read_only = False
    assert (await importer.run(ImportRequest("refused", path, "planes"), _ignore)).final_status == "success"


async def test_importing_again_replaces_what_an_earlier_try_had_committed(pool: Pool, tmp_path: Path) -> None:
    path = _planes(tmp_path / "p.csv", [f"N{n},2001,t,m,o,2,4,NA,Jet" for n in range(5)])
    for again in (False, True):
        await Importer(pool).run(ImportRequest("unsure", path, "planes", again=again), _ignore)
    assert await _staged(pool, "unsure") == 5


async def test_analysis_counts_records_and_maps_fields(tmp_path: Path) -> None:
    path = _planes(
        tmp_path / "p.csv", ["N1,1,,,,,,,", "N2,1,,,,,,,"], header=_HEADER.replace("tailnum", "Tail Number")
    )
    analysis = await analyse(path, "planes")
    assert (analysis.records, analysis.size) == (2, path.stat().st_size)
    assert analysis.mapping.columns["Tail Number"] == "tailnum"

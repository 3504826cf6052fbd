"""The files that users import."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from examples.imports.domain.mapping import propose
from examples.imports.domain.planning import stratum_of
from examples.imports.domain.validation import validate
from examples.imports.files import SourceFile, write_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[SourceFile]:
    return write_files(tmp_path_factory.mktemp("files"), seed=1)


def test_the_five_tables_are_there_whole(files: list[SourceFile]) -> None:
    whole = {file.dataset.name: file.records for file in files if file.whole_table}
    assert whole == {"airlines": 16, "airports": 1_458, "planes": 3_322, "weather": 26_115, "flights": 336_776}


def test_slices_have_the_records_and_bytes_they_say(files: list[SourceFile]) -> None:
    for file in files:
        content = file.path.read_bytes()
        assert (content.count(b"\n") - 1, len(content)) == (file.records, file.size)


def test_the_same_seed_writes_the_same_bytes(files: list[SourceFile], tmp_path: Path) -> None:
    again = write_files(tmp_path, seed=1)
    assert [file.path.read_bytes() for file in again] == [file.path.read_bytes() for file in files]


def test_every_stratum_has_files_that_users_pick(files: list[SourceFile]) -> None:
    picked = {stratum_of(file.choice().estimated_ms) for file in files if file.weight > 0}
    assert picked == {"short", "medium", "long"}


def test_files_end_in_success_partial_success_and_failure(files: list[SourceFile]) -> None:
    endings = set()
    for file in files:
        raw = pl.read_csv(file.path, infer_schema=False, truncate_ragged_lines=True)
        mapping = propose(raw.columns, file.dataset)
        if mapping.missing_required:
            endings.add("failed")
            continue
        raw = raw.select(mapping.columns.keys()).rename(dict(mapping.columns))
        good = validate(raw, file.dataset, first_line=1, seen=frozenset()).good.height
        assert good > 0.9 * file.records
        endings.add("success" if good == file.records else "partial_success")
    assert endings == {"success", "partial_success", "failed"}

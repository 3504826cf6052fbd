"""Which records are taken, and what the others are refused for."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest

from examples.imports.domain.datasets import AIRLINES, AIRPORTS, WEATHER
from examples.imports.domain.validation import Fault, Validated, validate

_AIRPORT = {"faa": "JFK", "name": "Kennedy", "lat": "40.6", "lon": "-73.8", "alt": "13", "tz": "-5"}
_WEATHER = {
    "origin": "EWR",
    "year": "2013",
    "month": "1",
    "day": "1",
    "hour": "1",
    "time_hour": "2013-01-01T06:00:00Z",
}


def _airports(*changes: dict[str, str | None], seen: frozenset[str] = frozenset()) -> Validated:
    raw = pl.DataFrame([{**_AIRPORT, "faa": f"A{n}", **change} for n, change in enumerate(changes)])
    return validate(raw, AIRPORTS, first_line=1, seen=seen)


def test_a_good_record_comes_out_typed_with_its_line() -> None:
    raw = pl.DataFrame([{**_WEATHER, "temp": " 39.02 ", "wind_dir": "NA"}])
    row = validate(raw, WEATHER, first_line=41, seen=frozenset()).good.row(0, named=True)
    assert row["temp"] == 39.02
    assert row["wind_dir"] is None
    assert row["year"] == 2013
    assert row["time_hour"] == datetime(2013, 1, 1, 6, tzinfo=UTC)
    assert row["line"] == 41


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": ""}, Fault.MISSING),
        ({"name": "NA"}, Fault.MISSING),
        ({"name": None}, Fault.MISSING),
        ({"alt": "thirteen"}, Fault.NUMBER),
        ({"alt": "13.5"}, Fault.NUMBER),
        ({"lat": "nan"}, Fault.NUMBER),
        ({"lat": "1e999"}, Fault.NUMBER),
        ({"lat": "90.1"}, Fault.RANGE),
        ({"tz": "15"}, Fault.RANGE),
        ({"name": "Ken\x00nedy"}, Fault.CHARACTERS),
    ],
)
def test_each_fault_is_named(change: dict[str, str | None], fault: Fault) -> None:
    validated = _airports({}, change)
    assert validated.faults == Counter({fault: 1})
    assert validated.good["faa"].to_list() == ["A0"]


def test_a_bad_timestamp_is_its_own_fault() -> None:
    raw = pl.DataFrame([{**_WEATHER, "time_hour": "last tuesday"}])
    assert validate(raw, WEATHER, first_line=1, seen=frozenset()).faults == Counter({Fault.TIMESTAMP: 1})


def test_a_record_with_several_faults_counts_once() -> None:
    validated = _airports({"name": "", "alt": "x", "lat": "999"})
    assert validated.faults == Counter({Fault.MISSING: 1})


def test_a_key_repeated_in_the_batch_or_seen_in_an_earlier_one_is_a_duplicate() -> None:
    validated = _airports({"faa": "JFK"}, {"faa": "LGA"}, {"faa": "JFK"}, {"faa": "EWR"}, seen=frozenset({"EWR"}))
    assert validated.good["faa"].to_list() == ["JFK", "LGA"]
    assert validated.faults == Counter({Fault.DUPLICATE: 2})
    assert validated.keys == {"JFK", "LGA"}


def test_a_column_that_the_file_lacks_counts_as_absent_cells() -> None:
    raw = pl.DataFrame({"carrier": ["AA", "UA"]})
    validated = validate(raw, AIRLINES, first_line=1, seen=frozenset())
    assert validated.good.is_empty()
    assert validated.faults == Counter({Fault.MISSING: 2})

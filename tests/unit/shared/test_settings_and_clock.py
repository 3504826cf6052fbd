"""Settings from the environment, and instants that lose no microsecond."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import from_datetime, to_datetime, to_iso
from shared.settings import Settings, SettingsError

REQUIRED = {"TIDEGATE_KAFKA": "k:9092", "TIDEGATE_POSTGRES": "postgresql://p/db"}


def test_defaults_fill_what_is_not_set() -> None:
    found = Settings.from_environment(REQUIRED)
    assert (found.kafka, found.postgres) == ("k:9092", "postgresql://p/db")
    assert (found.host, found.port, found.log_level, found.instance) == ("127.0.0.1", 8000, "INFO", "0")
    assert (found.bootstrap_keys, found.scratch) == (None, None)
    assert Settings.from_environment({**REQUIRED, "TIDEGATE_SCRATCH": ""}).scratch is None
    assert Settings.from_environment({**REQUIRED, "TIDEGATE_SCRATCH": "/s"}).scratch == "/s"


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_missing_variable_is_named(missing: str) -> None:
    for value in ({}, {missing: ""}):
        with pytest.raises(SettingsError, match=missing):
            Settings.from_environment({**{k: v for k, v in REQUIRED.items() if k != missing}, **value})


@pytest.mark.parametrize("port", ["", "x", "-1", "65536", "80.0"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(SettingsError, match="TIDEGATE_PORT"):
        Settings.from_environment({**REQUIRED, "TIDEGATE_PORT": port})


@pytest.mark.parametrize("processes", ["", "x", "0", "-1", "257", "²"])
def test_a_number_of_processes_that_is_none_is_refused_by_name(processes: str) -> None:
    assert Settings.from_environment(REQUIRED).processes == 1
    assert Settings.from_environment({**REQUIRED, "TIDEGATE_PROCESSES": "4"}).processes == 4
    with pytest.raises(SettingsError, match="TIDEGATE_PROCESSES"):
        Settings.from_environment({**REQUIRED, "TIDEGATE_PROCESSES": processes})


@pytest.mark.parametrize("rate", ["0", "-1", "many", "nan", "inf", "0.001"])
def test_a_rate_for_keys_is_a_positive_number_or_absent(rate: str) -> None:
    name = "TIDEGATE_KEY_EVENTS_PER_SECOND"
    assert Settings.from_environment(REQUIRED).key_events_per_second is None
    assert Settings.from_environment({**REQUIRED, name: ""}).key_events_per_second is None
    assert Settings.from_environment({**REQUIRED, name: "2.5"}).key_events_per_second == 2.5
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({**REQUIRED, name: rate})


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**15), 32_503_680_000_000_000))
def test_instants_come_back_to_the_microsecond(micros: int) -> None:
    assert from_datetime(to_datetime(micros)) == micros
    assert datetime.fromisoformat(to_iso(micros)) == to_datetime(micros)


def test_a_naive_moment_is_taken_as_utc() -> None:
    assert from_datetime(datetime(2026, 1, 2)) == from_datetime(datetime(2026, 1, 2, tzinfo=UTC))
    assert to_iso(from_datetime(datetime(2026, 1, 2, 3, 4, 5, 6))) == "2026-01-02T03:04:05.000006Z"

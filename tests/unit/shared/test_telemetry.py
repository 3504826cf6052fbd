"""Log lines that machines read."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from shared.telemetry import JsonFormatter


def line(message: str, *args: object, exc_info: Any = None, **extra: object) -> dict[str, Any]:
    logger = logging.Logger("services.x")
    record = logger.makeRecord("services.x", logging.WARNING, __file__, 1, message, args, exc_info, extra=extra)
    text = JsonFormatter("ingest").format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_names_its_service_level_and_logger() -> None:
    found = line("took %d ms", 5)
    assert found.pop("time").endswith("Z")
    assert found == {"level": "warning", "service": "ingest", "logger": "services.x", "message": "took 5 ms"}


ODD = [1, "ü", "\ud800", None, {"a": [1]}, {1: "x"}, {(1, 2): 3}, 2**70, b"\xff", object(), {1, 2}, float("nan")]


@pytest.mark.parametrize("value", ODD, ids=lambda v: type(v).__name__)
def test_extra_fields_stand_beside_the_message_whatever_they_are(value: object) -> None:
    assert "found" in line("x", found=value)


def test_a_message_that_quotes_half_a_surrogate_pair_is_not_lost() -> None:
    assert line("got %s", "\ud800")["message"] == "got \ud800"


def test_an_exception_comes_with_its_traceback() -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        found = line("failed", exc_info=sys.exc_info())
    assert "KeyError: 'lost'" in found["exception"]
    assert "test_telemetry" in found["exception"]

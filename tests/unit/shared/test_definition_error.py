"""What a faulty definition is answered with."""

from __future__ import annotations

from shared.definition_error import DefinitionError


def test_a_place_that_quotes_a_huge_name_is_cut() -> None:
    error = DefinitionError("spec." + "k" * 1_000_000, "unknown")
    assert len(error.place) < 300
    assert str(error) == f"{error.place}: unknown"

"""Which column becomes which field."""

from __future__ import annotations

from examples.imports.domain.datasets import AIRPORTS, DATASETS
from examples.imports.domain.mapping import propose


def test_headers_of_the_tables_map_to_themselves() -> None:
    for dataset in DATASETS.values():
        names = [field.name for field in dataset.fields]
        mapping = propose(names, dataset)
        assert mapping.columns == dict(zip(names, names, strict=True))
        assert not mapping.unmapped_columns
        assert not mapping.missing_required


def test_aliases_map_whatever_their_case_and_punctuation() -> None:
    mapping = propose(["FAA Code", " Airport-Name ", "LATITUDE", "lng", "Altitude"], AIRPORTS)
    assert list(mapping.columns.values()) == ["faa", "name", "lat", "lon", "alt"]


def test_of_two_columns_for_one_field_the_first_wins() -> None:
    mapping = propose(["lat", "latitude"], AIRPORTS)
    assert mapping.columns == {"lat": "lat"}
    assert mapping.unmapped_columns == ("latitude",)


def test_required_fields_without_a_column_are_named() -> None:
    mapping = propose(["name", "lat", "lon", "alt"], AIRPORTS)
    assert mapping.missing_required == ("faa",)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.assignment.bootstrap import bootstrap_keys
from shared.keys import KeyRing, Principal, new_key
from shared.settings import SettingsError


def test_the_first_keys_come_from_a_file_or_from_the_variable_itself(tmp_path: Path) -> None:
    keys = {"admin": new_key(), "ingest": new_key(), "read": new_key()}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    for given in (str(tmp_path / "keys.json"), json.dumps(keys)):
        ring = KeyRing(bootstrap_keys(given))
        assert {scope: ring.identify(key) for scope, key in keys.items()} == {
            "admin": Principal("default", "admin"),
            "ingest": Principal("default", "ingest"),
            "read": Principal("default", "read"),
        }


def test_no_first_keys_are_needed() -> None:
    assert bootstrap_keys(None) == []


@pytest.mark.parametrize(
    "given", ["/nowhere/keys.json", "{", "{}x", '{"owner": "x"}', '{"admin": "secret"}', '{"admin": 1}']
)
def test_unusable_first_keys_are_named(given: str) -> None:
    with pytest.raises(SettingsError, match="TIDEGATE_BOOTSTRAP_KEYS"):
        bootstrap_keys(given)

"""Secrets at rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.sealing import Sealer, SealError, new_sealing_key, sealer_of
from shared.settings import SettingsError

SECRET = {"auth_token": "t0ken", "headers": {"X": "y"}}


def test_what_is_sealed_is_hidden_and_opens_for_its_owner_only() -> None:
    sealer = Sealer([new_sealing_key()])
    sealed = sealer.seal("source/2", SECRET)
    assert "t0ken" not in sealed
    assert sealer.open("source/2", sealed) == SECRET
    assert sealer.seal("source/2", SECRET) != sealed
    with pytest.raises(SealError, match="another owner"):
        sealer.open("source/3", sealed)


@pytest.mark.parametrize("broken", ["", "gAAAAA", "ü", "\ud800"])
def test_what_was_not_sealed_by_us_does_not_open(broken: str) -> None:
    with pytest.raises(SealError):
        Sealer([new_sealing_key()]).open("source/2", broken)


def test_a_key_can_be_replaced_without_losing_what_the_old_one_sealed() -> None:
    old, new = new_sealing_key(), new_sealing_key()
    sealed = Sealer([old]).seal("a", SECRET)
    both = Sealer([new, old])
    assert both.open("a", sealed) == SECRET
    assert not both.is_newest(sealed)
    anew = both.seal("a", both.open("a", sealed))
    assert both.is_newest(anew)
    assert Sealer([new]).open("a", anew) == SECRET
    with pytest.raises(SealError):
        Sealer([new]).open("a", sealed)


def test_keys_come_from_a_file_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first, second = new_sealing_key(), new_sealing_key()
    file.write_text(f"{first}\n\n{second}\n")
    sealer = sealer_of(str(file))
    assert sealer is not None
    assert sealer.open("a", Sealer([second]).seal("a", SECRET)) == SECRET
    assert sealer_of(None) is None


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff\xfe"])
def test_an_unusable_file_of_keys_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="TIDEGATE_SEALING_KEYS"):
        sealer_of(str(file))
    with pytest.raises(SettingsError, match="cannot read"):
        sealer_of(str(tmp_path / "missing"))

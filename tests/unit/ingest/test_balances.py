"""Where balances are kept: each process for itself, or all of them together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ingest.balances import Balances, OwnBalances, SharedBalances
from services.ingest.domain.rate_limit import Balance

KEY, OTHER = "0123456789", "abcdef0123"


@pytest.fixture(params=["own", "shared"])
def balances(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Balances]:
    if request.param == "own":
        yield OwnBalances()
        return
    shared = SharedBalances(tmp_path / "balances")
    yield shared
    shared.close()


def held(balances: Balances, key: str) -> Balance | None:
    found: list[Balance | None] = []
    balances.change(key, found.append)
    return found[0]


def test_each_key_has_a_balance_of_its_own(balances: Balances) -> None:
    balances.change(KEY, lambda _: Balance(1.5, 10.0))
    balances.change(OTHER, lambda _: Balance(-3.0, 11.0))
    assert (held(balances, KEY), held(balances, OTHER)) == (Balance(1.5, 10.0), Balance(-3.0, 11.0))


def test_none_leaves_a_balance_as_it_is(balances: Balances) -> None:
    assert held(balances, KEY) is None
    balances.change(KEY, lambda _: Balance(1.0, 1.0))
    balances.change(KEY, lambda _: None)
    assert held(balances, KEY) == Balance(1.0, 1.0)


def test_what_one_process_grants_is_gone_for_the_others(tmp_path: Path) -> None:
    one, other = SharedBalances(tmp_path / "balances"), SharedBalances(tmp_path / "balances")
    one.change(KEY, lambda _: Balance(5.0, 1.0))
    assert held(other, KEY) == Balance(5.0, 1.0)
    other.change(KEY, lambda _: Balance(4.0, 2.0))
    assert held(one, KEY) == Balance(4.0, 2.0)
    one.close()
    other.close()


def test_a_key_without_a_slot_has_a_balance_in_its_own_process(tmp_path: Path) -> None:
    balances = SharedBalances(tmp_path / "balances", slots=2)
    keys = [KEY, OTHER, "ffffffffff", "0000000000"]
    for n, key in enumerate(keys):
        balances.change(key, lambda _, n=n: Balance(n, 0.0))  # type: ignore[misc]
    assert [held(balances, key) for key in keys] == [Balance(n, 0.0) for n in range(4)]
    balances.close()


_ADDING = """
import sys
from pathlib import Path
from services.ingest.balances import SharedBalances
from services.ingest.domain.rate_limit import Balance
balances = SharedBalances(Path(sys.argv[1]))
for n in range(5000):
    for key in ("0123456789", "abcdef0123"):
        balances.change(key, lambda b: Balance((b.events if b else 0) + 1, 0.0))
"""


def test_no_change_is_lost_between_processes(tmp_path: Path) -> None:
    file = tmp_path / "balances"
    adding = [subprocess.Popen([sys.executable, "-c", _ADDING, str(file)]) for _ in range(3)]
    assert [process.wait(60) for process in adding] == [0, 0, 0]
    balances = SharedBalances(file)
    assert (held(balances, KEY), held(balances, OTHER)) == (Balance(15_000, 0.0), Balance(15_000, 0.0))
    balances.close()

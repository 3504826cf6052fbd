"""Freshness: ages of probes, lane by lane, and their figures."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from bench.freshness.figures import Freshness, Round
from bench.freshness.probes import Probes


class Answers(Probes):
    """Instead of a stack: what it would answer, and when."""

    def __init__(self, *clock: int) -> None:
        moments = deque(clock)
        super().__init__("http://127.0.0.1", "key", moments.popleft)

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        return None


async def test_an_age_is_from_a_probes_answer_to_the_first_look_that_counts_it() -> None:
    probes = Answers(1_000, 2_000)
    await probes.send()
    await probes.send()
    probes._note("0", 0, 3_000)
    assert probes.ages == []
    probes._note("0", 1, 5_000)
    probes._note("1", 1, 9_000)
    probes._note("0", 1, 99_000)
    assert probes.ages == [4_000, 7_000]


async def test_a_probe_that_counts_before_its_answer_has_come_is_noted_once_it_has() -> None:
    probes = Answers(4_000)
    probes._note("0", 1, 3_000)
    assert probes.ages == []
    await probes.send()
    probes._note("0", 1, 4_500)
    assert probes.ages == [500]


def test_figures_are_by_nearest_rank_in_milliseconds() -> None:
    found = Freshness([Round(20_000, 19_990.0, [n * 1_000 for n in range(1, 101)])]).figures()
    assert {f.metric: f.value for f in found} == {
        "acknowledged_to_visible_p50_ms": pytest.approx(50),
        "acknowledged_to_visible_p99_ms": pytest.approx(99),
        "acknowledged_to_visible_max_ms": pytest.approx(100),
        "background_accepted_per_s": pytest.approx(19_990),
        "probes": 100,
    }
    assert {f.workload for f in found} == {"20000/s"}

"""Which of a series' updates holds, and how much is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting.domain.revisions import (
    Bounds,
    LatestUpdates,
    SeriesKey,
    UnsoundUpdateError,
    Verdict,
    check_update,
)
from shared.clock import DAY, MINUTE
from shared.messages import MetricUpdate
from shared.statistics import sketch
from shared.statistics.distinct import Distinct

NOW = 1_729_593_000_000_000


def update(
    revision: int = 1, *, window: int = NOW - MINUTE, shard: int = 0, n: int = 0, **fields: object
) -> MetricUpdate:
    values: dict[str, object] = {
        "organisation": "acme",
        "subject_kind": "metric",
        "subject": "imports",
        "version": 1,
        "series": '["count"]',
        **fields,
    }
    return MetricUpdate(
        window_start=window,
        shard=shard,
        revision=revision,
        n=n,
        watermark=NOW,
        published_at=NOW,
        **values,  # type: ignore[arg-type]
    )


def test_a_higher_revision_replaces_a_lower_one() -> None:
    latest = LatestUpdates(Bounds())

    assert latest.apply(update(5, n=1), now=NOW) is Verdict.NEWER
    assert latest.apply(update(9, n=2), now=NOW) is Verdict.NEWER
    assert [kept.n for kept in latest] == [2]


def test_the_same_revision_again_changes_nothing() -> None:
    latest = LatestUpdates(Bounds())
    latest.apply(update(5, n=1), now=NOW)

    assert latest.apply(update(5, n=1), now=NOW) is Verdict.REPEAT
    assert [kept.revision for kept in latest] == [5]


def test_a_lower_revision_is_stale() -> None:
    latest = LatestUpdates(Bounds())
    latest.apply(update(5, n=1), now=NOW)

    assert latest.apply(update(4, n=7), now=NOW) is Verdict.STALE
    assert [kept.n for kept in latest] == [1]


def test_shards_windows_versions_series_metrics_and_organisations_are_apart() -> None:
    latest = LatestUpdates(Bounds())
    others = [
        update(1),
        update(1, shard=1),
        update(1, window=NOW),
        update(1, version=2),
        update(1, series='["sum"]'),
        update(1, subject="exports"),
        update(1, organisation="else"),
    ]

    assert [latest.apply(other, now=NOW) for other in others] == [Verdict.NEWER] * len(others)
    assert len(latest) == len(others)


def test_windows_older_than_the_bound_are_not_kept() -> None:
    latest = LatestUpdates(Bounds(age=DAY))

    assert latest.apply(update(window=NOW - DAY), now=NOW) is Verdict.NEWER
    assert latest.apply(update(window=NOW - DAY - 1), now=NOW) is Verdict.EXPIRED
    assert latest.forget_expired(now=NOW) == 0
    assert latest.forget_expired(now=NOW + 1) == 1
    assert len(latest) == 0


def test_an_experiments_totals_take_no_place_from_metrics() -> None:
    latest = LatestUpdates(Bounds(series=1))

    for shard in range(3):
        total = update(window=0, shard=shard, subject_kind="experiment")
        assert latest.apply(total, now=NOW) is Verdict.UNWATCHED
    assert len(latest) == 0
    assert latest.apply(update(), now=NOW) is Verdict.NEWER
    assert latest.apply(update(2, window=0, subject_kind="experiment"), now=NOW) is Verdict.UNWATCHED
    assert [kept.subject_kind for kept in latest] == ["metric"]


def test_streaks_do_not_expire() -> None:
    latest = LatestUpdates(Bounds())

    assert latest.apply(update(window=0), now=NOW) is Verdict.NEWER
    assert latest.forget_expired(now=NOW + 400 * DAY) == 0
    assert len(latest) == 1


def test_when_no_more_series_may_be_kept_the_oldest_window_goes() -> None:
    latest = LatestUpdates(Bounds(series=3))
    for shard in (0, 1):
        latest.apply(update(shard=shard, window=NOW - 2 * MINUTE), now=NOW)
    latest.apply(update(window=NOW - MINUTE), now=NOW)

    assert latest.apply(update(window=NOW), now=NOW) is Verdict.DISPLACING
    assert sorted(kept.window_start for kept in latest) == [NOW - MINUTE, NOW]


def test_a_window_older_than_all_that_are_kept_displaces_none() -> None:
    latest = LatestUpdates(Bounds(series=1))
    latest.apply(update(window=NOW), now=NOW)

    assert latest.apply(update(window=NOW - MINUTE), now=NOW) is Verdict.OVERFLOW
    assert latest.apply(update(2, window=NOW), now=NOW) is Verdict.NEWER


def test_streaks_are_never_displaced() -> None:
    latest = LatestUpdates(Bounds(series=1))
    latest.apply(update(window=0), now=NOW)

    assert latest.apply(update(window=0, shard=1), now=NOW) is Verdict.OVERFLOW
    assert latest.apply(update(window=NOW), now=NOW) is Verdict.OVERFLOW
    assert [kept.shard for kept in latest] == [0]


updates = st.builds(
    update,
    st.integers(1, 6),
    window=st.sampled_from([0, NOW - 2 * DAY, NOW - 2 * MINUTE, NOW - MINUTE, NOW]),
    shard=st.integers(0, 2),
)


@given(st.lists(updates, max_size=60))
def test_whatever_the_order_each_series_ends_at_its_highest_revision(history: list[MetricUpdate]) -> None:
    latest = LatestUpdates(Bounds())
    for one in history:
        latest.apply(one, now=NOW)

    highest: dict[SeriesKey, int] = {}
    for one in history:
        if one.window_start != NOW - 2 * DAY:
            highest[SeriesKey.of(one)] = max(one.revision, highest.get(SeriesKey.of(one), 0))
    assert {SeriesKey.of(kept): kept.revision for kept in latest} == highest


@given(st.lists(st.tuples(updates, st.integers(0, 2 * DAY)), max_size=60), st.integers(1, 5))
def test_the_bound_holds_and_no_kept_revision_falls(history: list[tuple[MetricUpdate, int]], bound: int) -> None:
    latest = LatestUpdates(Bounds(series=bound))
    for one, later in history:
        before = {SeriesKey.of(kept): kept.revision for kept in latest}
        verdict = latest.apply(one, now=NOW + later)
        after = {SeriesKey.of(kept): kept.revision for kept in latest}
        assert len(after) <= bound
        assert all(after[key] >= revision for key, revision in before.items() if key in after)
        kept = after.get(SeriesKey.of(one)) == one.revision and before.get(SeriesKey.of(one)) != one.revision
        assert kept == (verdict in (Verdict.NEWER, Verdict.DISPLACING))


def test_histograms_and_sets_of_values_are_sound_and_what_is_cut_off_is_not() -> None:
    histogram, values = sketch.encode({7: 5, 9: 1}), Distinct.of(np.arange(3, dtype=np.uint64), 10).encode()
    for whole in (b"", histogram, histogram[1:], values):
        check_update(update(sketch=whole))
    for cut in (b"abc", histogram[:-2], histogram[1:-1], histogram[2:]):
        with pytest.raises(UnsoundUpdateError):
            check_update(update(sketch=cut))
    latest = LatestUpdates(Bounds())
    latest.apply(update(sketch=histogram), now=NOW)
    latest.apply(update(sketch=values, shard=1), now=NOW)
    assert [kept.sketch for kept in latest] == [histogram, b""]

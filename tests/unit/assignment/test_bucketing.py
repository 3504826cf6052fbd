from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.assignment.domain.bucketing import BUCKETS, bucket_of

# The 0.9999 quantile of chi-squared with 9 degrees of freedom, with 1 and with 99.
CHI2_1, CHI2_9, CHI2_99 = 15.14, 33.72, 161.32

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(words, words)
def test_every_unit_has_a_bucket(salt: str, unit: str) -> None:
    assert 0 <= bucket_of(salt, unit) < BUCKETS


def test_units_spread_evenly_over_the_buckets() -> None:
    n = 100_000
    counts = Counter(bucket_of("salt", str(unit)) * 100 // BUCKETS for unit in range(n))
    assert sum((counts[i] - n / 100) ** 2 / (n / 100) for i in range(100)) < CHI2_99


def test_experiments_with_different_salts_are_independent() -> None:
    """A hash without salt would put the same users in the treatment of every experiment."""
    n = 50_000
    for one, other in (("import_processing_mode", "heartbeat"), ("exp-1", "exp-2"), ("a", "b")):
        table = Counter(
            (bucket_of(one, str(u)) < BUCKETS // 2, bucket_of(other, str(u)) < BUCKETS // 2) for u in range(n)
        )
        rows = {r: table[r, True] + table[r, False] for r in (True, False)}
        columns = {c: table[True, c] + table[False, c] for c in (True, False)}
        chi2 = sum(
            (table[r, c] - rows[r] * columns[c] / n) ** 2 / (rows[r] * columns[c] / n)
            for r in (True, False)
            for c in (True, False)
        )
        assert chi2 < CHI2_1


def test_the_treatment_of_one_experiment_spreads_evenly_over_another() -> None:
    treated = [str(u) for u in range(100_000) if bucket_of("one", str(u)) < BUCKETS // 2]
    counts = Counter(bucket_of("two", unit) * 10 // BUCKETS for unit in treated)
    expected = len(treated) / 10
    assert sum((counts[i] - expected) ** 2 / expected for i in range(10)) < CHI2_9

"""Folds `events.v1` into windows and experiment totals in Postgres, each event exactly once."""

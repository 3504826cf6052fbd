"""Benchmarks: our figures and, in the same run, those of peers. `tidegate bench` runs them."""

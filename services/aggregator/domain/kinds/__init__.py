"""The types of metric, one module each: what a definition asks of events, and how its totals are read."""

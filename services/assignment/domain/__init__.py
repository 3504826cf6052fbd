"""Decisions of assignment, pure: buckets, splits, lifecycle, who gets what, and what is told about it."""

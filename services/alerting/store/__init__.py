"""Alerting's tables."""

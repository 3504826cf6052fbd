"""The aggregator's Postgres: one transaction per batch, one module per kind of row."""

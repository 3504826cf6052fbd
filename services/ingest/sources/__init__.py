"""Data sources that run: other systems' streams, read by whichever ingest process holds them."""

"""What ingest decides about dead letters: who may see which, what a correction makes of one, what became of it."""

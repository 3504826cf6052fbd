"""Dead letters over HTTP: found, counted, exported, corrected and replayed."""

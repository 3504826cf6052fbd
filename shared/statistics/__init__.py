"""Pure statistics on counts and streamed moments."""

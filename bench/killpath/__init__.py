"""How long it takes from the event that trips a breaker to the changed answer of its flag."""

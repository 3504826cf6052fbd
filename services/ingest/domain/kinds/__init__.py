"""The kinds of events that the product itself knows, and the schema of each."""

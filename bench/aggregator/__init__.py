"""How fast a backlog of events becomes windows: the aggregator beside other ways to do the same."""

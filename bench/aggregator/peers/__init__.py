"""What the aggregator is compared with, each a program of its own that speaks `bench.aggregator.peers.protocol`."""

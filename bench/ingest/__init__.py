"""How fast events over HTTP become acknowledged Kafka records: ingest beside peers and a producer without HTTP."""

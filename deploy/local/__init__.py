"""The embedded stack: real Kafka, PostgreSQL and a gateway from locked packages, without Docker."""

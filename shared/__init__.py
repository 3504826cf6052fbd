"""What every service builds on: topics and messages, Kafka, Postgres, HTTP, keys, telemetry."""

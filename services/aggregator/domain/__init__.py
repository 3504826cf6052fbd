"""What the aggregator decides, free of Kafka, Postgres and clocks."""

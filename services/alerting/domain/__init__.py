"""What alerting decides, without Kafka, HTTP or a clock."""

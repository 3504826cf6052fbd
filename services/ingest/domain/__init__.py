"""What ingest decides, without Kafka, HTTP or a clock: is this an event, and which one?"""

"""Telemetry of a server's WebSockets and background jobs: recorded in microseconds, sent in the background.

    telemetry = Telemetry("http://127.0.0.1:8080", key)
    with telemetry.job("job-7", pipeline="csv_import") as job, job.connection(context=context) as connection:
        connection.sent(len(message))
        job.error("E_GEMINI_TIMEOUT", provider="gemini", retryable=True)

Nothing here raises into the caller or waits for the network; what cannot be kept is dropped and counted.
"""

from tidegate.telemetry.client import Telemetry
from tidegate.telemetry.connection import Connection
from tidegate.telemetry.context import ClientContext
from tidegate.telemetry.job import Job
from tidegate.telemetry.policy import Policy
from tidegate.telemetry.stats import Drop, Stats

__all__ = ["ClientContext", "Connection", "Drop", "Job", "Policy", "Stats", "Telemetry"]

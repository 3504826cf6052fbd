"""Delivers notifications until it is killed; run as a script with the URL of a database and a lease in seconds."""

import asyncio
import sys

from prometheus_client import CollectorRegistry

from services.alerting.channels.retry import Patience
from services.alerting.channels.sender import new_session
from services.alerting.delivery import Delivery, DeliveryMetrics
from shared.clock import system_clock
from shared.postgres import create_pool


async def main(postgres: str, lease: float) -> None:
    pool = await create_pool(postgres, name="delivering", schema="alerting")
    async with new_session() as http:
        patience = Patience(lease=lease, timeout=lease)
        await Delivery(pool, http, system_clock, DeliveryMetrics(CollectorRegistry()), patience=patience).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))

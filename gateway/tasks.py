"""What workers do in the background, by procrastinate: batches, and chores by the clock.

The queue is only a wake-up call. How far a batch is stands in its own row and files, so a job may run twice or late.
"""

from __future__ import annotations

import threading

from django.conf import settings
from procrastinate import RetryStrategy
from procrastinate.contrib.django import app

BATCHES, CHORES = "batches", "chores"
# Set when this worker is to end: batches stop asking, wait for what is in flight, and are left to another worker.
stopping = threading.Event()
# A batch that another process is at, or that lost its database, is looked at again after so long.
AGAIN_S = 5


@app.task(queue=BATCHES, retry=RetryStrategy(wait=AGAIN_S))
def run_batch(batch_id: str) -> None:
    """Carry a batch to its end. Whatever keeps it from that: again in a while."""
    from gateway.batches import running

    running.run(batch_id, stopping=stopping)


@app.task(queue=CHORES)
def check_providers(timestamp: int) -> None:
    """Check every enabled provider."""
    from gateway import health_checks

    health_checks.check(health_checks.enabled_providers())


@app.periodic(cron="17 * * * *")
@app.task(queue=CHORES)
def prune_files(timestamp: int) -> None:
    """Delete files of clients that are past their age."""
    from gateway import files

    files.prune()


if settings.HEALTH_CRON:
    app.periodic(cron=settings.HEALTH_CRON)(check_providers)

"""What workers do in the background, by procrastinate: batches, and chores by the clock.

The queue is only a wake-up call. How far a batch is stands in its own row and files, so a job may run twice or late.
"""

from __future__ import annotations

import threading

from django.conf import settings
from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.contrib.django import app
from procrastinate.jobs import Job

BATCHES, CHORES = "batches", "chores"
# Set when this worker is to end: batches stop asking, wait for what is in flight, and are left to another worker.
stopping = threading.Event()
# A batch that another process is at, or that lost its database, is looked at again after so long.
AGAIN_S = 5


class Stopped(Exception):
    """This worker ends before its job does: another one may go on at once."""


class _Again(BaseRetryStrategy):
    """Whatever happens, a batch is gone on with until its own row says that it has ended."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        return RetryDecision(retry_in={"seconds": 0 if isinstance(exception, Stopped) else AGAIN_S})


@app.task(queue=BATCHES, retry=_Again())
def run_batch(batch_id: str) -> None:
    """Carry a batch to its end. Whatever keeps it from that: again in a while."""
    from gateway.batches import running

    try:
        running.run(batch_id, stopping=stopping)
    except running.Interrupted:
        raise Stopped(batch_id) from None


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


@app.periodic(cron="37 * * * *")
@app.task(queue=CHORES)
def prune_claims(timestamp: int) -> None:
    """Delete idempotency claims past their time: each line of a batch leaves one, with its answer."""
    from gateway import idempotency

    idempotency.prune()


if settings.HEALTH_CRON:
    app.periodic(cron=settings.HEALTH_CRON)(check_providers)

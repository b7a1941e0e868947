"""A worker: takes jobs from the queue until it is told to stop, and takes over from workers that died.

Jobs of a worker whose heart stopped are put back into the queue; a batch without any job is given one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from concurrent.futures import ThreadPoolExecutor

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DjangoDatabaseError
from django.db import close_old_connections
from procrastinate import App, exceptions
from procrastinate.contrib.django import app as django_app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.jobs import Status

from gateway import tasks
from gateway.models import BatchJob

log = logging.getLogger("tollbook.workers")

# A worker whose last heartbeat is older than a writer's lease is taken to be dead, like a writer.
DEAD_AFTER_S = settings.WRITER_LEASE_S
HEARTBEAT_S = DEAD_AFTER_S / 5
WATCH_S = DEAD_AFTER_S / 5
SHORT_JOB_THREADS = 8


def work() -> None:
    """Work until SIGTERM or SIGINT; batches in flight are then left at a line's end, to be gone on with elsewhere."""
    connector = django_app.connector
    assert isinstance(connector, DjangoConnector)
    with django_app.replace_connector(connector.get_worker_connector()) as app:
        asyncio.run(_work(app))


async def _work(app: App) -> None:
    # Batches block their threads for hours: enough for all of them, and some for what is short.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(settings.BATCHES_AT_ONCE + SHORT_JOB_THREADS))
    running = asyncio.create_task(_work_for_ever(app))

    def stop() -> None:
        tasks.stopping.set()
        running.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _work_for_ever(app: App) -> None:
    """Begin anew when the database was away: nobody may be there to start a worker that ended by itself."""
    while True:
        try:
            async with app.open_async(), asyncio.TaskGroup() as group:
                group.create_task(_worker(app, queue=tasks.BATCHES, at_once=settings.BATCHES_AT_ONCE))
                group.create_task(_worker(app, queue=tasks.CHORES, at_once=1))
                group.create_task(_watch(app))
        except* (exceptions.ConnectorException, psycopg.Error, DjangoDatabaseError) as errors:
            log.warning("worker_broken", extra={"reason": str(errors.exceptions[0])[:300]})
        await asyncio.sleep(WATCH_S)
        # A pool that was closed does not open again.
        connector = DjangoConnector().get_worker_connector()
        app.connector = app.job_manager.connector = connector


async def _worker(app: App, *, queue: str, at_once: int) -> None:
    await app.run_worker_async(
        queues=[queue],
        name=queue,
        concurrency=at_once,
        install_signal_handlers=False,
        delete_jobs="successful",
        fetch_job_polling_interval=1.0,
        update_heartbeat_interval=HEARTBEAT_S,
        stalled_worker_timeout=DEAD_AFTER_S,
    )


async def _watch(app: App) -> None:
    """Now and then: take over what was left behind."""
    while True:
        try:
            await take_over(app)
        except (exceptions.ConnectorException, DjangoDatabaseError) as error:
            log.warning("watch_failed", extra={"reason": str(error)[:300]})
        await asyncio.sleep(WATCH_S)


async def take_over(app: App) -> None:
    """Put the jobs of dead workers back into the queue, and give every open batch a job."""
    for stalled in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=DEAD_AFTER_S):
        log.warning("job_taken_over", extra={"job": stalled.id, "task_name": stalled.task_name})
        with contextlib.suppress(exceptions.ConnectorException):
            # Another worker may have put it back in this very moment.
            await app.job_manager.retry_job(stalled)
    for batch_id in await sync_to_async(_open_batches)():
        jobs = list(await app.job_manager.list_jobs_async(queueing_lock=batch_id))
        if not any(job.status in (Status.TODO.value, Status.DOING.value) for job in jobs):
            with contextlib.suppress(exceptions.AlreadyEnqueued):
                await tasks.run_batch.configure(queueing_lock=batch_id).defer_async(batch_id=batch_id)


def _open_batches() -> list[str]:
    close_old_connections()
    try:
        return list(BatchJob.objects.filter(state__in=BatchJob.OPEN).values_list("pk", flat=True))
    finally:
        close_old_connections()

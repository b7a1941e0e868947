"""Carries one batch to its end, or as far as it may: `run`.

One process at a time, by an advisory lock that a dead process drops. What is done stands in the result files and, for
what was answered but not yet written, in the ledger's idempotency claims: so a batch that was killed goes on where it
stopped, and no line is asked twice. Nothing grows with the batch but one byte a line.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import psycopg
from django.conf import settings
from django.utils import timezone

from gateway import files
from gateway.batches import jobs, lines
from gateway.batches.asking import Later, ask
from gateway.batches.lines import Fault, Line
from gateway.batches.results import Record, Results
from gateway.keyring import Principal
from gateway.models import BatchJob
from gateway.runtime import Runtime, runtime
from ledger import database, keys
from ledger.models import ApiKey

log = logging.getLogger("tollbook.batches")

# How often a running batch looks at its row, its key and its lock, and tells its progress.
LOOK_S = 1.0
_TODO, _ASKED, _DONE = 0, 1, 2
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"


class Busy(Exception):
    """Another process carries out this batch."""


class Interrupted(Exception):
    """This process stops: another one goes on."""


def run(batch_id: str, *, stopping: threading.Event) -> None:
    """Carry a batch to its end. Raises Busy, Interrupted, and database errors: then somebody has to run it again."""
    with _alone(batch_id) as lock:
        job = BatchJob.objects.get(pk=batch_id)
        if job.state == BatchJob.State.VALIDATING:
            _validate(job)
        job.refresh_from_db()
        if job.state == BatchJob.State.IN_PROGRESS:
            with Work(job, current=runtime(), lock=lock, stopping=stopping) as work:
                work.go()
        job.refresh_from_db()
        if job.state in (BatchJob.State.FINALIZING, BatchJob.State.CANCELLING):
            jobs.finish(job)


@contextlib.contextmanager
def _alone(batch_id: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that holds the batch's lock: it must stay open, and be looked at now and then."""
    with database.connect(application_name="tollbook batch") as connection:
        row = connection.execute(_LOCK, (batch_id,)).fetchone()
        if not row or not row[0]:
            raise Busy(batch_id)
        yield connection


def _validate(job: BatchJob) -> None:
    path = files.path_of(job.input_file_id)
    try:
        total, faults = lines.validate(path, endpoint=job.endpoint, max_line_bytes=settings.MAX_BODY_BYTES)
    except FileNotFoundError:
        total, faults = 0, [Fault("file_not_found", "The bytes of the input file are not where this worker looks.")]
    if faults:
        jobs.refuse(job.pk, faults=faults)
    else:
        jobs.begin(job.pk, total=total)


class Work:
    """The lines of one batch that are left, asked a few at a time."""

    def __init__(
        self, job: BatchJob, *, current: Runtime, lock: psycopg.Connection[Any], stopping: threading.Event
    ) -> None:
        self._job = job
        self._runtime = current
        self._lock = lock
        self._stopping = stopping
        self._path = files.path_of(job.input_file_id)
        self._ok = Results(files.path_of(files.written_by(job, kind="output")), batch_id=job.pk)
        self._bad = Results(files.path_of(files.written_by(job, kind="errors")), batch_id=job.pk)
        self._principal = _principal(job)
        # One byte for each line number, from 1.
        self._states = bytearray(1)
        self._start = (0, 0)
        self._ready: Iterator[Line] = iter(())
        self._next_pass = 0.0
        self._pauses: dict[str, float] = {}
        self._line_pauses: dict[int, float] = {}
        self._busy_answers: dict[int, int] = {}
        self._flying: set[Future[Record | Later]] = set()
        self._waits_for = ""
        self._next_look = 0.0
        self._is_over = False

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._ok.close()
        self._bad.close()

    def go(self) -> None:
        """Until all lines are answered, or the batch is cancelled, expires, or loses its key. Raises Interrupted."""
        for results in (self._ok, self._bad):
            for number in results.numbers():
                self._mark(number, _DONE)
        with ThreadPoolExecutor(settings.BATCH_CONCURRENCY, thread_name_prefix="batch") as pool:
            while True:
                self._look()
                if not self._is_over and not self._stopping.is_set():
                    self._fill(pool)
                if self._flying:
                    self._collect()
                elif self._is_over or self._stopping.is_set() or self._left() == 0:
                    break
                else:
                    self._stopping.wait(max(0.01, min(self._next_pass, self._next_look) - time.monotonic()))
        self._tell()
        if self._left() == 0:
            jobs.conclude(self._job.pk)
        elif not self._is_over:
            raise Interrupted(self._job.pk)

    # --- whether to go on ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """Now and then: is this still ours to do? Raises psycopg.Error when the lock is lost."""
        now = time.monotonic()
        if self._is_over or now < self._next_look:
            return
        self._next_look = now + LOOK_S
        self._lock.execute("SELECT 1")
        self._tell()
        job = self._job
        job.refresh_from_db(fields=["state", "expires_at"])
        self._principal = _principal(job)
        if job.state != BatchJob.State.IN_PROGRESS:
            self._is_over = True
        elif self._principal is None:
            self._is_over = True
            jobs.conclude(job.pk, fault=Fault("invalid_key", "The API key of this batch may not be used any more."))
        elif job.expires_at <= timezone.now():
            self._expire()

    def _expire(self) -> None:
        """What was not asked is written down as such; what is in flight is waited for first."""
        self._is_over = True
        while self._flying:
            self._collect()
        message = "This request was not carried out before the batch expired."
        left: list[Record] = []
        for number, raw in lines.walk(self._path, max_line_bytes=settings.MAX_BODY_BYTES):
            if self._state(number) != _DONE:
                line = lines.read(raw, number=number, endpoint=self._job.endpoint)
                left.append(Record(number, line.custom_id, code="batch_expired", message=message))
            if len(left) >= 1000:
                self._write(left)
                left = []
        self._write(left)
        self._tell()
        jobs.conclude(self._job.pk, is_expired=True)

    def _tell(self) -> None:
        jobs.note_progress(
            self._job.pk, completed=self._ok.count, failed=self._bad.count, waits_for=self._waits_for
        )

    def _left(self) -> int:
        return int(self._job.total) - self._ok.count - self._bad.count

    # --- asking -------------------------------------------------------------------------------------------

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        """Ask for as many lines as may be in flight."""
        while len(self._flying) < settings.BATCH_CONCURRENCY:
            line = self._next()
            if line is None or self._principal is None:
                return
            self._mark(line.number, _ASKED)
            asked = pool.submit(
                ask,
                line,
                batch_id=self._job.pk,
                endpoint=self._job.endpoint,
                runtime=self._runtime,
                principal=self._principal,
                earlier_busy=self._busy_answers.get(line.number, 0),
            )
            self._flying.add(asked)

    def _next(self) -> Line | None:
        """The next line that may be asked now; None when none may yet."""
        line = next(self._ready, None)
        if line is None and time.monotonic() >= self._next_pass:
            self._ready = self._pass()
            line = next(self._ready, None)
            if line is None:
                self._next_pass = self._soonest()
        return line

    def _pass(self) -> Iterator[Line]:
        """Once through the lines that are left, without those that wait. The next pass begins at the first left."""
        first: tuple[int, int] | None = None
        with self._path.open("rb") as file:
            offset, number = self._start
            file.seek(offset)
            while raw := file.readline():
                number += 1
                if raw.strip() and self._state(number) != _DONE:
                    first = first or (offset, number - 1)
                    line = self._if_ready(raw, number)
                    if line is not None:
                        yield line
                offset += len(raw)
        self._start = first or (offset, number)

    def _if_ready(self, raw: bytes, number: int) -> Line | None:
        now = time.monotonic()
        if self._state(number) == _ASKED or self._line_pauses.get(number, 0.0) > now:
            return None
        line = lines.read(raw, number=number, endpoint=self._job.endpoint)
        return None if self._pauses.get(line.model, 0.0) > now else line

    def _soonest(self) -> float:
        """When a pass may find something again."""
        now = time.monotonic()
        ends = [end for end in (*self._pauses.values(), *self._line_pauses.values()) if end > now]
        return min(ends, default=now)

    # --- collecting ---------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait for answers and write them down: those that came together are synced together."""
        done, self._flying = wait(self._flying, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        records: list[Record] = []
        for each in done:
            found = each.result()
            if isinstance(found, Record):
                records.append(found)
            else:
                self._put_off(found)
        self._write(records)

    def _write(self, records: list[Record]) -> None:
        self._ok.append(record for record in records if record.is_ok)
        self._bad.append(record for record in records if not record.is_ok)
        for record in records:
            self._mark(record.number, _DONE)
            self._line_pauses.pop(record.number, None)
            self._busy_answers.pop(record.number, None)
        if records and not self._pauses_now():
            self._waits_for = ""

    def _put_off(self, found: Later) -> None:
        self._mark(found.number, _TODO)
        until = time.monotonic() + found.wait_s
        if found.line_only:
            self._line_pauses[found.number] = until
        else:
            self._pauses[found.model] = until
        if found.is_busy:
            self._busy_answers[found.number] = self._busy_answers.get(found.number, 0) + 1
        self._waits_for = found.reason
        self._next_pass = min(self._next_pass, until)

    def _pauses_now(self) -> bool:
        now = time.monotonic()
        return any(end > now for end in self._pauses.values())

    def _state(self, number: int) -> int:
        return self._states[number] if number < len(self._states) else _TODO

    def _mark(self, number: int, state: int) -> None:
        if number >= len(self._states):
            self._states.extend(bytes(number + 1024 - len(self._states)))
        self._states[number] = state


def _principal(job: BatchJob) -> Principal | None:
    """Who asks: the key that made the batch, as it is now. None once it may not be used any more."""
    key = ApiKey.objects.select_related("user").get(pk=job.key_id)
    if not (key.user.is_active and keys.is_active(key, at=timezone.now())):
        return None
    return Principal(key.pk, key.user_id, key.team_id, frozenset(key.scopes), frozenset(key.allowed_models))

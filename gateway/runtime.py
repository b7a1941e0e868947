"""What one process needs to relay calls: its writer, its snapshot, its keyring, and the thread that keeps them fresh.

Made at the first call (or by gunicorn after the fork), never before a fork.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
from django.conf import settings
from django.db import Error as DjangoDatabaseError
from django.db import connections

from gateway import metrics
from gateway import snapshot as snapshots
from gateway.breaker import Breaker, FirstBytes, State
from gateway.errors import ledger_unavailable
from gateway.expectations import Expectations
from gateway.keyring import Keyring
from gateway.snapshot import Snapshot
from gateway.watcher import Watcher
from ledger import anchors, database, recovery, rerate_runs
from ledger.spool import Spool
from ledger.writer import Writer
from providers.retry import RetryBudget

if TYPE_CHECKING:
    from gateway.open_calls import OpenCall

log = logging.getLogger("tollbook.runtime")

LAST_USED_INTERVAL_S = 60.0
PARTITION_INTERVAL_S = 6 * 3600.0
RERATE_INTERVAL_S = 5.0


class Runtime:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.writer = Writer(
            spool=Spool(folder=settings.SPOOL_DIR), lease_s=settings.WRITER_LEASE_S, timeout_s=settings.LEDGER_TIMEOUT_S
        )
        self.keyring = Keyring()
        self.expectations = Expectations()
        self.open_calls: dict[int, OpenCall] = {}
        self._watcher = Watcher(self.open_calls)
        self._budgets: dict[int, RetryBudget] = {}
        self._breakers: dict[int, Breaker] = {}
        self._first_bytes: dict[int, FirstBytes] = {}
        self._snapshot: Snapshot | None = None
        self._stopping = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._next_sweep = self._next_last_used = self._next_partitions = self._next_anchors = 0.0
        self._next_rerate = 0.0
        self._first_look = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="runtime", daemon=True)

    def start(self) -> None:
        self.writer.start()
        self._thread.start()
        self._watcher.start()
        self._first_look.wait(10)

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot. Raises ApiError ledger_unavailable when none could be read yet."""
        if self._snapshot is None:
            raise ledger_unavailable()
        return self._snapshot

    def retry_budget(self, provider_id: int) -> RetryBudget:
        """The retries this process may still spend on a provider."""
        found = self._budgets.get(provider_id)
        return found if found is not None else self._budgets.setdefault(provider_id, RetryBudget())

    def breaker(self, model_id: int) -> Breaker:
        """The circuit breaker of a target, in this process."""
        found = self._breakers.get(model_id)
        return found if found is not None else self._breakers.setdefault(model_id, Breaker())

    def breaker_states(self) -> dict[int, State]:
        """The breakers of the targets that this process has called, by model id."""
        return {model_id: breaker.state for model_id, breaker in list(self._breakers.items())}

    def first_bytes(self, model_id: int) -> FirstBytes:
        """How long a target took to its first byte lately, in this process."""
        found = self._first_bytes.get(model_id)
        return found if found is not None else self._first_bytes.setdefault(model_id, FirstBytes())

    def refresh(self) -> None:
        """Read the snapshot now, whatever the number says."""
        self._snapshot = snapshots.load()

    def problem(self) -> str | None:
        """Why this process cannot take calls, or None."""
        if self._snapshot is None:
            return "the catalog could not be read yet"
        return self.writer.problem()

    def stop(self) -> None:
        """End open calls, commit what is queued, close the writer's row."""
        self._stopping.set()
        self._watcher.stop()
        left = list(self.open_calls.values())
        if left:
            # All at once: their settles share commits, and where the database is away they share one wait.
            with ThreadPoolExecutor(min(64, len(left))) as pool:
                list(pool.map(lambda call: call.cut(), left))
        self.writer.close()
        self.keyring.close()

    def note_state(self) -> None:
        """Tell the metrics what is under way; also while the database is away, when it matters most."""
        streams = sum(call.hold.streamed for call in list(self.open_calls.values()))
        metrics.record_state(queued=self.writer.depth, spooled=self.writer.spooled, streams=streams)

    # --- the thread ---------------------------------------------------------------------------------------

    def _keep_fresh(self) -> None:
        while not self._stopping.is_set():
            self.note_state()
            try:
                self._look()
            except (psycopg.Error, DjangoDatabaseError) as error:
                log.warning("refresh_failed", extra={"reason": str(error).strip()[:300]})
                self._disconnect()
            except Exception:
                # The thread must live: without it prices, revocations and sweeps would silently stop.
                log.exception("refresh_defect")
                self._disconnect()
            self._first_look.set()
            self._stopping.wait(settings.SNAPSHOT_POLL_S)
        self._disconnect()

    def _look(self) -> None:
        if self._connection is None:
            self._connection = database.connect(application_name="tollbook runtime")
        row = self._connection.execute("SELECT version FROM ledger_snapshotversion").fetchone()
        if self._snapshot is None or (row and row[0] != self._snapshot.version):
            self.refresh()
            self._cut_revoked()
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + settings.SWEEP_INTERVAL_S
            recovery.sweep(self._connection, writer=self.writer, grace_s=settings.WRITER_GRACE_S)
        if now >= self._next_partitions:
            self._next_partitions = now + PARTITION_INTERVAL_S
            self._connection.execute("SELECT ledger_make_partitions(now(), 3)")
        if now >= self._next_anchors:
            self._next_anchors = now + anchors.INTERVAL_S
            anchors.take(self._connection)
        if now >= self._next_last_used:
            self._next_last_used = now + LAST_USED_INTERVAL_S
            self._note_last_used(self._connection)
        if now >= self._next_rerate:
            self._next_rerate = now + RERATE_INTERVAL_S
            rerate_runs.wake_if_open(self._connection)

    def _note_last_used(self, connection: psycopg.Connection[Any]) -> None:
        used = self.keyring.take_used()
        if used:
            connection.execute("UPDATE ledger_apikey SET last_used_at = now() WHERE id = ANY (%s)", (used,))

    def _cut_revoked(self) -> None:
        """End the streams of keys that were revoked."""
        if not self.open_calls:
            return
        open_keys = {call.hold.key for call in list(self.open_calls.values())}
        assert self._connection is not None
        rows = self._connection.execute(
            "SELECT id FROM ledger_apikey WHERE id = ANY (%s) AND revoked_at IS NOT NULL", (sorted(open_keys),)
        )
        revoked = {row[0] for row in rows}
        for call in list(self.open_calls.values()):
            if call.hold.key in revoked:
                call.interrupt("key_revoked")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        connections.close_all()


_current: Runtime | None = None
_lock = threading.Lock()


def runtime() -> Runtime:
    """This process's runtime, started at first use."""
    found = _current
    if found is not None and found.pid == os.getpid():
        return found
    return _start()


def started() -> Runtime | None:
    """This process's runtime, if it has one already."""
    return _current if _current is not None and _current.pid == os.getpid() else None


def _start() -> Runtime:
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid():
            made = Runtime()
            made.start()
            _current = made
        return _current


def stop() -> None:
    """Stop this process's runtime, if it has one."""
    global _current
    with _lock:
        if _current is not None and _current.pid == os.getpid():
            _current.stop()
        _current = None


def problem() -> str | None:
    """Readiness: why this process cannot take calls. A process that relays nothing (yet) has no problem."""
    return _current.problem() if _current is not None else None


def spooled() -> str | None:
    """Readiness: settles that wait on disk for the database."""
    waiting = _current.writer.spooled if _current is not None else 0
    return f"{waiting} settled calls wait in the spool for the database" if waiting else None

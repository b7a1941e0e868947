"""Group commit: many calls, one transaction.

A process has one writer: a thread with a connection of its own. Callers put a settle, a hold or both into its queue and
wait; the thread takes what is queued, freezes the bytes and their digest ONCE, and sends them to `ledger_write`. While
one batch commits the next one gathers, so no timer is needed.

What can go wrong, and what happens then:
- the connection breaks: nobody knows whether the batch committed. The same frozen bytes go again with the same seq;
  the database recognises a batch it has.
- the lease ran out (the process was paused) and a sweeper fenced this writer: it registers anew and sends the batch
  again; a settle whose hold was swept becomes an adjustment there.
- the database rejects a row: the batch is halved until the row stands alone; it is quarantined, all others commit.
- a caller stops waiting for a hold that commits later: it is settled at once as never dispatched. No phantom hold.
- a caller stops waiting for a settle: the settle goes to the spool on disk and is sent again until it is in the books.
- the spool's disk refuses it, too: it stays in the queue, the last place there is, and while it waits no hold is taken.
  Should the process end before the database is back, its hold is swept like any other and counts as its bound.
"""

from __future__ import annotations

import _thread
import hashlib
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple
from uuid import UUID

import psycopg
from uuid_utils import uuid7

from ledger import database, faults, unseen
from ledger.rows import HoldRow, SettleRow, encode, fit
from ledger.spool import Spool

log = logging.getLogger("tollbook.ledger.writer")

MAX_BATCH = 256
MAX_QUEUE = 20_000
MAX_HOLD_WAIT_S = 1.0
MAX_CLOSING_S = 2.0
FENCED, OUT_OF_ORDER = "TB001", "TB002"


class LedgerUnavailable(Exception):
    """The hold could not be committed in time: nothing may be sent upstream. Try again in a second."""


class LedgerRejected(Exception):
    """The database rejected this hold for good: a defect here, not an outage."""


class Refusal(NamedTuple):
    """A hold that was refused: by a limit, for want of room or of a price; or because its idempotency key is taken."""

    limit: int | None
    why: Literal["limit", "unpriced", "idempotency"]


class Verdict(NamedTuple):
    """Admitted when `refusal` is None. `room` is what request and token limits had left, by limit id."""

    refusal: Refusal | None
    room: dict[str, Any]


class _Item:
    """What one caller waits for. `lock` is held until the outcome is known."""

    __slots__ = ("error", "given_up", "hold", "lock", "queued_at", "refusal", "room", "settle", "spooled")

    def __init__(
        self, *, settle: bytes | None, hold: tuple[HoldRow, bytes] | None, spooled: bool = False
    ) -> None:
        self.settle = settle
        self.hold = hold
        self.refusal: Refusal | None = None
        self.room: dict[str, Any] = {}
        self.error: Exception | None = None
        self.given_up = False
        self.spooled = spooled
        self.queued_at = time.monotonic()
        self.lock = _thread.allocate_lock()
        self.lock.acquire()

    def wait(self, timeout_s: float) -> bool:
        return self.lock.acquire(timeout=timeout_s)


class _Frozen(NamedTuple):
    """A batch as it is sent, however often it must be."""

    items: list[_Item]
    settles: str | None
    holds: str | None
    digest: bytes


def _freeze(items: list[_Item]) -> _Frozen:
    settles = [item.settle for item in items if item.settle is not None]
    holds = [item.hold[1] for item in items if item.hold is not None]
    settles_json = b"[" + b",".join(settles) + b"]" if settles else b""
    holds_json = b"[" + b",".join(holds) + b"]" if holds else b""
    digest = hashlib.sha256(settles_json + b"\0" + holds_json).digest()
    return _Frozen(items, settles_json.decode() or None, holds_json.decode() or None, digest)


class Writer:
    """See the module. Made by `start`; `hold`, `settle` and `settle_and_hold` may be called from any thread."""

    def __init__(
        self,
        *,
        spool: Spool,
        lease_s: float,
        timeout_s: float,
        connect: Callable[[], psycopg.Connection[Any]] | None = None,
    ) -> None:
        self._connect = connect or (lambda: database.connect(application_name="tollbook writer"))
        self._spool = spool
        self._lease_s = lease_s
        self._timeout_s = timeout_s
        self._queue: deque[_Item] = deque()
        self._wake = threading.Condition()
        self._connection: psycopg.Connection[Any] | None = None
        self._seq = 0
        self._closing = False
        self._closing_since: float | None = None
        self._in_flight_since: float | None = None
        # Whether the spool has more to replay at once; and not before when, after it could not be read.
        self._replaying = False
        self._replay_at = 0.0
        self.id: UUID | None = None
        self.pid = os.getpid()
        self.quarantined = 0
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    # --- callers ------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def hold(self, row: HoldRow) -> Verdict:
        """Commit a hold: durable when admitted. Raises LedgerUnavailable; then nothing was admitted."""
        return self._hold(_Item(settle=None, hold=(row, encode(row))))

    def settle(self, row: SettleRow) -> None:
        """Commit how a call ended. Does not fail.

        Returns when it is durable, in the database or in the spool. With both gone it is kept in memory, and its hold
        speaks for it until then.
        """
        encoded = encode(fit(row))
        item = _Item(settle=encoded, hold=None)
        self._put(item)
        if not item.wait(self._timeout_s):
            self._spool_settle(item)

    def settle_all(self, rows: Iterable[SettleRow]) -> None:
        """As `settle`, of many calls at once: they share commits, and the wait."""
        items = [_Item(settle=encode(fit(row)), hold=None) for row in rows]
        for item in items:
            self._put(item)
        ends_at = time.monotonic() + self._timeout_s
        for item in items:
            if not item.wait(max(0.0, ends_at - time.monotonic())):
                self._spool_settle(item)

    def settle_and_hold(self, settle: SettleRow, hold: HoldRow) -> Verdict:
        """Commit the end of one attempt and the hold of the next together. As `hold`; the settle is never lost."""
        item = _Item(settle=encode(fit(settle)), hold=(hold, encode(hold)))
        try:
            return self._hold(item)
        except LedgerUnavailable:
            self._spool_settle(item)
            raise

    def problem(self) -> str | None:
        """Why holds would be refused now, or None."""
        oldest = self._oldest_wait_s()
        if self._closing:
            return "the writer is closing"
        if oldest > MAX_HOLD_WAIT_S:
            return f"the oldest ledger write has waited {oldest:.1f} s"
        if len(self._queue) > MAX_QUEUE:
            return f"{len(self._queue)} ledger writes are queued"
        return None

    @property
    def depth(self) -> int:
        return len(self._queue)

    @property
    def spooled(self) -> int:
        return self._spool.records

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Commit what is queued, close the writer's row. Settles that cannot be committed stay in the spool."""
        with self._wake:
            self._closing = True
            self._closing_since = time.monotonic()
            self._wake.notify()
        self._thread.join(timeout_s)
        for item in list(self._queue):
            if item.settle is not None and not item.spooled:
                self._spool_settle(item)
        self._spool.close()

    # --- callers, inside ----------------------------------------------------------------------------------

    def _hold(self, item: _Item) -> Verdict:
        if os.getpid() != self.pid:
            raise RuntimeError("this writer was made before a fork: each process needs its own")
        problem = self.problem()
        if problem is not None:
            raise LedgerUnavailable(problem)
        self._put(item)
        if not item.wait(self._timeout_s):
            with self._wake:
                # The thread may have finished this item while we gave up: then its outcome counts.
                if not item.lock.locked():
                    return self._outcome(item)
                item.given_up = True
            raise LedgerUnavailable(f"the ledger did not commit the hold within {self._timeout_s} s")
        return self._outcome(item)

    def _outcome(self, item: _Item) -> Verdict:
        if item.error is not None:
            raise item.error
        return Verdict(item.refusal, item.room)

    def _put(self, item: _Item) -> None:
        with self._wake:
            self._queue.append(item)
            self._wake.notify()

    def _oldest_wait_s(self) -> float:
        since = self._in_flight_since
        queue = self._queue
        try:
            queued = queue[0].queued_at
        except IndexError:
            queued = None
        oldest = min((at for at in (since, queued) if at is not None), default=None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    def _spool_settle(self, item: _Item) -> None:
        with self._wake:
            if item.spooled or item.settle is None:
                return
            item.spooled = True
        try:
            self._spool.append(item.settle)
        except OSError:
            # Database and disk are both gone. The item stays queued in memory: the last place there is.
            item.spooled = False
            log.critical("spool_failed", exc_info=True)

    # --- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._beat()
        self._adopt()
        # Now, and not after the first wait for work: these calls have waited long enough.
        self._replay_spool()
        while True:
            items = self._take()
            if items:
                self._write(items)
            elif self._closing and not self._replaying:
                self._close_row()
                return
            elif not self._closing:
                self._beat()
                self._adopt()
            self._replay_spool()

    def _write(self, items: list[_Item]) -> None:
        self._in_flight_since = items[0].queued_at
        try:
            self._commit(items)
        except Exception as error:
            # A defect: the callers must hear of it, and the next batch must still be written.
            log.critical("writer_defect", exc_info=True)
            self._fail(items, error)
        self._in_flight_since = None

    def _take(self) -> list[_Item]:
        """What is queued, at most MAX_BATCH; empty when a heartbeat is due, the spool has more, or at the end."""
        with self._wake:
            if not self._queue and not self._closing and not self._replaying:
                self._wake.wait(self._lease_s / 3)
            items: list[_Item] = []
            while self._queue and len(items) < MAX_BATCH:
                item = self._queue.popleft()
                if item.given_up or item.spooled:
                    # Its caller was told "unavailable", or the settle is on disk: nobody waits for the hold.
                    if item.settle is None or item.spooled:
                        continue
                    item.hold = None
                items.append(item)
            return items

    def _commit(self, items: list[_Item]) -> bool:
        """Send until the database has answered for every item. False when the process must end before that."""
        frozen = _freeze(items)
        delay_s = 0.05
        while True:
            try:
                self._finish(frozen, self._send(frozen))
                return True
            except database.AWAY as error:
                if self._closing and self._closed_for_too_long():
                    self._leave(items)
                    return False
                if not isinstance(error, database.TRANSIENT):
                    self._drop_connection()
                log.warning("ledger_write_retried", extra={"reason": str(error).strip()[:300]})
                time.sleep(delay_s)
                delay_s = min(delay_s * 2, 0.5)
            except psycopg.Error as error:
                if error.sqlstate in (FENCED, OUT_OF_ORDER):
                    log.error("writer_replaced", extra={"writer": str(self.id), "reason": str(error).strip()[:300]})
                    self.id = None
                    continue
                return self._split(items, error)

    def _split(self, items: list[_Item], error: psycopg.Error) -> bool:
        """The database rejected the batch: find the row that it cannot take, and commit the others."""
        if len(items) > 1:
            middle = len(items) // 2
            halves = [self._commit(half) for half in (items[:middle], items[middle:])]
            return all(halves)
        (item,) = items
        self.quarantined += 1
        log.error("row_quarantined", extra={"reason": str(error).strip()[:500], "sqlstate": error.sqlstate})
        if item.settle is not None and item.hold is not None:
            # Which of the two was it? Each alone will tell; the waiter hears of the hold.
            alone = _Item(settle=item.settle, hold=None)
            item.settle = None
            halves = [self._commit([each]) for each in (alone, item)]
            return all(halves)
        if item.settle is not None:
            self._quarantine(item.settle)
        item.error = LedgerRejected(f"the ledger rejected this call: {error.sqlstate}")
        self._release([item])
        return True

    def _quarantine(self, settle: bytes) -> None:
        """Keep the rejected row on disk; put a row of its bare facts in its place, cost unknown, so none is lost."""
        try:
            self._spool.quarantine(settle)
        except OSError:
            # No disk to keep it on: the log is. Its call must get its row all the same.
            log.critical("quarantine_failed", exc_info=True, extra={"row": settle.decode()})
        bare = unseen.quarantined(settle)
        if bare is not None:
            self._commit([_Item(settle=encode(bare), hold=None)])

    def _send(self, frozen: _Frozen) -> dict[str, Any] | None:
        connection = self._connected()
        faults.point("before_write")
        row = connection.execute(
            "SELECT ledger_write(%s::uuid, %s::bigint, %s::bytea, %s::float8, %s::jsonb, %s::jsonb)",
            (str(self.id), self._seq + 1, frozen.digest, self._lease_s, frozen.settles, frozen.holds),
        ).fetchone()
        faults.point("after_write")
        self._seq += 1
        answer: dict[str, Any] | None = row[0] if row else None
        return answer

    def _finish(self, frozen: _Frozen, answer: dict[str, Any] | None) -> None:
        """Hand out the verdicts; settle what nobody waits for any more."""
        ordinal = 0
        refusals, room = (answer["refused"], answer["room"]) if answer else ({}, {})
        for item in frozen.items:
            if item.hold is None:
                continue
            ordinal += 1
            item.room = room
            refused = refusals.get(str(ordinal))
            if refused is not None:
                item.refusal = Refusal(limit=refused["limit"], why=refused["why"])
        with self._wake:
            orphans = [i.hold[0] for i in frozen.items if i.hold is not None and i.given_up and i.refusal is None]
            self._release(frozen.items)
        for hold in orphans:
            self._put(_Item(settle=encode(unseen.never_sent(hold)), hold=None))

    def _release(self, items: list[_Item]) -> None:
        for item in items:
            item.lock.release()

    def _fail(self, items: list[_Item], error: Exception) -> None:
        """Settles go to the spool, or back into the queue: while one waits there, holds are refused."""
        for item in items:
            if not item.lock.locked():
                continue
            self._spool_settle(item)
            if item.settle is not None and not item.spooled:
                kept = _Item(settle=item.settle, hold=None)
                kept.queued_at = item.queued_at
                with self._wake:
                    self._queue.appendleft(kept)
                time.sleep(0.1)  # nothing has changed yet
            item.error = LedgerUnavailable(f"the ledger writer failed: {type(error).__name__}")
            item.lock.release()

    def _leave(self, items: list[_Item]) -> None:
        """Closing while the database is away: settles go to the spool, holds were never admitted."""
        for item in items:
            self._spool_settle(item)
            if item.hold is not None:
                item.error = LedgerUnavailable("the process is stopping")
        self._release(items)

    def _closed_for_too_long(self) -> bool:
        return self._closing_since is not None and time.monotonic() - self._closing_since > MAX_CLOSING_S

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = self._connect()
        if self.id is None:
            identifier = UUID(bytes=uuid7().bytes)
            self._connection.execute("SELECT ledger_make_partitions(now(), 3)")
            self._connection.execute(
                "SELECT ledger_register_writer(%s, %s, %s, %s)",
                (str(identifier), socket.gethostname(), os.getpid(), self._lease_s),
            )
            self.id, self._seq = identifier, 0
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _beat(self) -> None:
        """Renew the lease of an idle writer."""
        try:
            renewed = self._connected().execute(
                "UPDATE ledger_writer SET lease_until = clock_timestamp() + make_interval(secs => %s) "
                "WHERE id = %s AND state = 'live'",
                (self._lease_s, str(self.id)),
            )
            if renewed.rowcount == 0:
                self.id = None
        except psycopg.Error as error:
            self._drop_connection()
            log.warning("heartbeat_failed", extra={"reason": str(error).strip()[:300]})

    def _adopt(self) -> None:
        """Take over the spools that dead processes of this machine have left."""
        try:
            adopted = self._spool.adopt()
        except OSError:
            log.critical("spool_unreadable", exc_info=True)
            return
        if adopted:
            log.warning("spool_adopted", extra={"records": adopted})

    def _replay_spool(self) -> None:
        """Put the next batch of what the disk holds into the books, between two batches of new calls.

        Settling twice is harmless: the hold is gone, the call is there. So records go only once they are written.
        """
        self._replaying = False
        if self._spool.records == 0 or self._connection is None or time.monotonic() < self._replay_at:
            return
        try:
            records = self._spool.read(MAX_BATCH)
            if not records:
                raise OSError(f"{self._spool.records} records of the spool cannot be read any more")
            written = self._commit([_Item(settle=record, hold=None, spooled=True) for record in records])
            if written:
                self._spool.clear(len(records))
        except Exception:
            # A disk that cannot be read, or a defect: the records stay, and the thread must live.
            self._replay_at = time.monotonic() + self._lease_s / 3
            log.critical("spool_replay_failed", exc_info=True)
            return
        self._replaying = written and self._spool.records > 0
        log.info("spool_replayed", extra={"records": len(records)})

    def _close_row(self) -> None:
        try:
            if self._connection is not None and self.id is not None:
                self._connection.execute(
                    "UPDATE ledger_writer SET state = 'closed' WHERE id = %s AND state = 'live'", (str(self.id),)
                )
        except psycopg.Error as error:
            log.warning("close_failed", extra={"reason": str(error).strip()[:300]})
        self._drop_connection()

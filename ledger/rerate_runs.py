"""Re-ratings as runs: asked for once, carried out in small transactions by whoever is there, resumable after a kill.

A run's cursor and its adjustments commit together, so a run that was killed goes on where it stopped and writes no
adjustment twice. Every adjustment names its run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import psycopg
from django.contrib.auth.models import AbstractBaseUser
from django.db import DatabaseError, IntegrityError, OperationalError, close_old_connections, connection, transaction
from django.utils import timezone

from ledger.corrections import wait_for_turn
from ledger.models import Adjustment, DailySpend, PriceSheet, RerateRun
from ledger.money import format_usd
from ledger.rerate import PAGE, Correction, Page, RerateError, Selection, Tally, examine, refuse_dropped

log = logging.getLogger("tollbook.rerate")

Progress = Callable[[RerateRun], None]
_OPEN = (RerateRun.State.WAITING, RerateRun.State.RUNNING)
_ATTEMPTS = 5
# In the order in which the gateway locks them: the triggers of the adjustments would lock them call by call.
_LOCK_WINDOWS = """
SELECT w.id FROM ledger_limitwindow w
WHERE w.id IN (SELECT unnest(c.windows) FROM ledger_call c WHERE c.id = ANY (%s)) ORDER BY w.id FOR NO KEY UPDATE
"""
_SOLE_WORKER = "SELECT pg_try_advisory_lock(hashtext('ledger_rerate_worker'))"
_NO_WORKER = "SELECT pg_advisory_unlock(hashtext('ledger_rerate_worker'))"


def begin(
    selection: Selection, *, applies: bool, actor: AbstractBaseUser | None = None, reason: str = ""
) -> RerateRun:
    """Write the run down, to be worked on.

    Raises RerateError: an empty period, a month that is not in the database, a sheet of another model.
    """
    if selection.start >= selection.end:
        raise RerateError("The period ends before it begins.")
    refuse_dropped(selection)
    sheet = PriceSheet.objects.filter(
        pk=selection.sheet_id or 0, model=selection.model_id, status=PriceSheet.Status.PUBLISHED
    )
    if selection.sheet_id is not None and not sheet.exists():
        raise RerateError(f"There is no published price sheet {selection.sheet_id} of this model.")
    return RerateRun.objects.create(
        model_id=selection.model_id, sheet_id=selection.sheet_id, start=selection.start, end=selection.end,
        applies=applies, reason=reason[:500], actor_id=None if actor is None else actor.pk,
    )  # fmt: skip


def selection_of(run: RerateRun) -> Selection:
    return Selection(model_id=run.model_id, start=run.start, end=run.end, sheet_id=run.sheet_id)


def work(run_id: int, *, progress: Progress | None = None) -> RerateRun:
    """Carry one run to its end, from wherever it stands. A run that cannot be carried out ends as failed."""
    while True:
        run = _step_patiently(run_id)
        if progress is not None:
            progress(run)
        if run.state not in _OPEN:
            return run


def open_runs() -> list[int]:
    """Runs that wait or were interrupted, oldest first."""
    return list(RerateRun.objects.filter(state__in=_OPEN).order_by("id").values_list("pk", flat=True))


def expected_calls(run: RerateRun) -> int:
    """About how many calls the run will look at, from the rollups: whole days, calls of the model asked for."""
    days = DailySpend.objects.filter(model=run.model_id, day__range=(run.start.date(), run.end.date()))
    return sum(days.order_by().values_list("calls", flat=True))


def step(run_id: int, *, most: int = PAGE) -> RerateRun:
    """Look at the next calls of a run, write what they need, move its cursor: one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        wait_for_turn()
        run = RerateRun.objects.select_for_update().get(pk=run_id)
        if run.state not in _OPEN:
            return run
        page = examine(selection_of(run), after=run.cursor, most=most)
        if run.applies and page.corrections:
            cursor.execute(_LOCK_WINDOWS, [[each.call_id for each in page.corrections]])
            Adjustment.objects.bulk_create(_adjustments(run, page.corrections))
        _note(run, page)
        run.save()
    return run


def _step_patiently(run_id: int) -> RerateRun:
    """A step; again when it lost a race. What cannot be done is written into the run."""
    for attempt in range(_ATTEMPTS):
        try:
            return step(run_id)
        except OperationalError:
            # A deadlock: read it again. A database that is away: the run stays open.
            if attempt == _ATTEMPTS - 1:
                raise
        except IntegrityError as error:
            # A call that somebody else settled meanwhile: read it again.
            if attempt == _ATTEMPTS - 1:
                return _fail(run_id, str(error))
        except (RerateError, TypeError) as error:
            return _fail(run_id, str(error))
    raise AssertionError("unreachable")


def _adjustments(run: RerateRun, corrections: Iterable[Correction]) -> list[Adjustment]:
    return [
        Adjustment(
            call_id=each.call_id,
            delta_usd=each.delta_usd,
            settles_unknown=each.settles_unknown,
            counted_delta_usd=each.counted_delta_usd,
            reason=Adjustment.Reason.RERATE,
            note=run.reason,
            reference=f"rerate:{run.pk}",
            price_sheet_id=each.sheet_id,
            actor_id=run.actor_id,
        )
        for each in corrections
    ]


def tally_of(run: RerateRun) -> Tally:
    spenders = {spender: (calls, Decimal(delta)) for spender, (calls, delta) in run.spenders.items()}
    return Tally(
        calls=run.calls, corrected=run.corrected, settled=run.settled, unpriced=run.unpriced, delta_usd=run.delta_usd,
        spenders=spenders,
    )  # fmt: skip


def _note(run: RerateRun, page: Page) -> None:
    found = tally_of(run).plus(page)
    run.calls, run.corrected, run.settled = found.calls, found.corrected, found.settled
    run.unpriced, run.delta_usd = found.unpriced, found.delta_usd
    run.spenders = {spender: [calls, format_usd(delta)] for spender, (calls, delta) in found.spenders.items()}
    if page.last is None:
        run.state, run.finished_at = RerateRun.State.DONE, timezone.now()
    else:
        run.state, run.cursor = RerateRun.State.RUNNING, page.last


def _fail(run_id: int, problem: str) -> RerateRun:
    run = RerateRun.objects.get(pk=run_id)
    run.state, run.finished_at, run.problem = RerateRun.State.FAILED, timezone.now(), problem[:500]
    run.save()
    return run


# --- in the background ------------------------------------------------------------------------------------

_worker: threading.Thread | None = None
_lock = threading.Lock()


def wake() -> None:
    """Work on open runs in a thread of this process, unless it or another process does already. Returns at once."""
    global _worker
    with _lock:
        if _worker is None or not _worker.is_alive():
            _worker = threading.Thread(target=_work_in_background, name="rerate", daemon=True)
            _worker.start()


def wake_if_open(connection: psycopg.Connection[Any]) -> None:
    """Go on with runs that wait or that a process left when it ended. One look in an index; for a housekeeper."""
    if connection.execute("SELECT 1 FROM ledger_reraterun WHERE state IN ('waiting', 'running') LIMIT 1").fetchone():
        wake()


def _work_in_background() -> None:
    try:
        work_on_open_runs()
    except DatabaseError:
        # The run stays open: the next wake, here or elsewhere, goes on with it.
        log.exception("rerate_interrupted")
    finally:
        close_old_connections()
        connection.close()


def work_on_open_runs(*, progress: Progress | None = None) -> int:
    """Carry every open run to its end. Returns how many; 0 also when another process is at it."""
    done = 0
    with connection.cursor() as cursor:
        cursor.execute(_SOLE_WORKER)
        row = cursor.fetchone()
        if not row or not row[0]:
            return 0
        try:
            while runs := open_runs():
                work(runs[0], progress=progress)
                done += 1
        finally:
            cursor.execute(_NO_WORKER)
    return done

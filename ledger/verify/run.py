"""Every check over every slice, from one REPEATABLE READ snapshot, in one thread or in several."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.db import connection, transaction

from ledger.verify import chain, costs, guards, sums
from ledger.verify.scope import EVERYTHING, Difference, Progress, Report, Scope, by_day, by_remainder, rows

Check = Callable[[Scope], Iterator[str]]
_Slices = Callable[[Scope, int], list[Scope]]


def _days(scope: Scope, jobs: int) -> list[Scope]:
    return by_day(scope)


def _remainders(scope: Scope, jobs: int) -> list[Scope]:
    return by_remainder(scope, parts=jobs)


def _once(scope: Scope, jobs: int) -> list[Scope]:
    return [scope]


CHECKS: dict[str, tuple[Check, _Slices]] = {
    "1 rollups": (sums.rollups, _days),
    "1 windows": (sums.windows_used, _remainders),
    "2 holds": (sums.holds, _once),
    "3 chain": (chain.links, _once),
    "3 hashes": (chain.hashes, _remainders),
    "3 anchors": (chain.anchors, _once),
    "4 costs": (costs.costs, _days),
    "5 guards": (guards.guards, _once),
}


class _Slice(NamedTuple):
    place: int
    check: str
    scope: Scope


def verify(*, scope: Scope = EVERYTHING, jobs: int = 1, report: Report | None = None) -> list[Difference]:
    """Run every check; an empty list means the books are right. The same lines in the same order for any `jobs`.

    With more than one job, threads share the snapshot, each with a connection of its own: the work is the server's.
    Raises django.db.Error when the database fails: then nothing is proved.
    """
    with transaction.atomic():
        _begin()
        work = _work(scope, jobs=jobs)
        state = _State(work, report)
        if jobs == 1:
            state.run()
        else:
            [(snapshot,)] = rows("SELECT pg_export_snapshot()")
            threads = [threading.Thread(target=_alongside, args=(state, snapshot)) for _ in range(jobs)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    if state.failure is not None:
        raise state.failure
    return [Difference(piece.check, line) for piece in work for line in state.found[piece.place]]


def differences(scope: Scope = EVERYTHING) -> list[Difference]:
    """As `verify`, inside the transaction that the caller has open: it sees what that has not committed yet."""
    work = _work(scope, jobs=1)
    return [Difference(piece.check, line) for piece in work for line in CHECKS[piece.check][0](piece.scope)]


def _begin(snapshot: str | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if snapshot is not None:
            cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        # One core a job: what a job uses is said by --jobs, not by the planner.
        cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL max_parallel_workers_per_gather = 0")
        cursor.execute("SET LOCAL work_mem = '128MB'; SET LOCAL jit = off; SET LOCAL timezone = 'UTC'")


def _work(scope: Scope, *, jobs: int) -> list[_Slice]:
    cut: dict[_Slices, list[Scope]] = {}
    slices: list[tuple[str, Scope]] = []
    for name, (_, how) in CHECKS.items():
        if how not in cut:
            cut[how] = how(scope, jobs)
        slices += [(name, each) for each in cut[how]]
    return [_Slice(place, name, each) for place, (name, each) in enumerate(slices)]


class _State:
    """What is left to do and what was found, shared by the jobs."""

    def __init__(self, work: list[_Slice], report: Report | None) -> None:
        self.left: queue.SimpleQueue[_Slice] = queue.SimpleQueue()
        for piece in work:
            self.left.put(piece)
        self.slices = len(work)
        self.found: dict[int, list[str]] = {}
        self.failure: BaseException | None = None
        self._report = report
        self._lock = threading.Lock()

    def run(self) -> None:
        """Take slices until none is left, or until another job has failed."""
        while self.failure is None:
            try:
                piece = self.left.get_nowait()
            except queue.Empty:
                return
            lines = list(CHECKS[piece.check][0](piece.scope))
            with self._lock:
                self.found[piece.place] = lines
                if self._report is not None:
                    found = sum(map(len, self.found.values()))
                    self._report(Progress(piece.check, len(self.found), self.slices, found))


def _alongside(state: _State, snapshot: str) -> None:
    try:
        with transaction.atomic():
            _begin(snapshot)
            state.run()
    except BaseException as error:
        # Raised again where the jobs were started: a check that did not run must not look like one that found nothing.
        state.failure = error
    finally:
        connection.close()

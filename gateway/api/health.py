"""Is this process up (/healthz), and should it get traffic (/readyz).

Both answer within about a second whatever the database does: its check runs in a thread of its own, is waited for no
longer than that, and its result serves everyone who asks within the next second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from ledger import database

_logger = logging.getLogger(__name__)
# Returns None when all is well, or the reason why this process should get no traffic. Must not block.
Check = Callable[[], str | None]
_checks: dict[str, Check] = {}
_warnings: dict[str, Check] = {}


def register(name: str, check: Check) -> None:
    """Add (or replace) what /readyz asks: the writer, the spool..."""
    _checks[name] = check


def register_warning(name: str, check: Check) -> None:
    """Add (or replace) what /readyz tells of without refusing traffic: something somebody has to look at."""
    _warnings[name] = check


class Probe:
    """Runs one slow check in a thread, at most one at a time, and remembers its result for `fresh_s` seconds."""

    def __init__(
        self,
        check: Check,
        *,
        timeout_s: float = 1.0,
        fresh_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._timeout_s = timeout_s
        self._fresh_s = fresh_s
        self._clock = clock
        self._lock = threading.Lock()
        self._running: threading.Event | None = None
        self._reason: str | None = None
        self._known_at = float("-inf")

    def __call__(self) -> str | None:
        """What the check says; a reason too when it says nothing within `timeout_s`."""
        with self._lock:
            if self._clock() - self._known_at < self._fresh_s:
                return self._reason
            # A probe that hangs is not joined by others: they wait for that one.
            done = self._running or self._start()
        if not done.wait(self._timeout_s):
            return f"no answer within {self._timeout_s:g} s"
        return self._reason

    def _start(self) -> threading.Event:
        done = self._running = threading.Event()
        threading.Thread(target=self._run, args=(done,), name="readiness-probe", daemon=True).start()
        return done

    def _run(self, done: threading.Event) -> None:
        reason = _ask(self._check)
        with self._lock:
            self._reason, self._known_at, self._running = reason, self._clock(), None
        done.set()


def _ask(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # a check that breaks is a check that fails; the class alone, as its text may tell more
        _logger.warning("readiness check failed: %s", type(error).__name__)
        return f"failed: {type(error).__name__}"


def _reach_database() -> None:
    """Raises psycopg.Error when the database does not let us in and answer."""
    with database.connect(application_name="tollbook readiness", deadline_s=1.0, statement_timeout_ms=1000) as session:
        session.execute("SELECT 1")


register("database", Probe(_reach_database))


def _stray_calls() -> str | None:
    """Calls in the default partition are safe and counted, so that traffic goes on; their month is missing."""
    with database.connect(application_name="tollbook readiness", deadline_s=1.0, statement_timeout_ms=1000) as session:
        found = session.execute("SELECT 1 FROM ledger_call_default LIMIT 1").fetchone()
    return "calls lie in the default partition: run manage.py partitions" if found else None


register_warning("partitions", Probe(_stray_calls, fresh_s=60.0))


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process can answer at all. Asks nobody else: a restart would not bring a database back."""
    return HttpResponse("ok", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 or 503, with each check: {"ready": false, "checks": {"database": "no answer within 1 s", "writer": "ok"}}.

    `warnings` holds what needs somebody though traffic may go on; it is left out while there is nothing.
    """
    reasons = {name: _ask(check) for name, check in list(_checks.items())}
    ready = all(reason is None for reason in reasons.values())
    checks = {name: reason or "ok" for name, reason in reasons.items()}
    body: dict[str, object] = {"ready": ready, "checks": checks}
    # A database that is away says so once, among the checks.
    warnings = {name: reason for name, check in _warnings.items() if ready and (reason := _ask(check)) is not None}
    return JsonResponse(body | ({"warnings": warnings} if warnings else {}), status=200 if ready else 503)

"""A circuit breaker per target: a target that mostly fails is left out of routes for a while, then tried by one call.

Local to the process: each sees enough traffic to judge, and none waits for another.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]

WINDOW_S = 30.0
LEAST_CALLS = 5
OPENS_AT = 0.5
OPEN_S = 10.0


class Breaker:
    """Opens when half of at least LEAST_CALLS calls of the last WINDOW_S seconds failed; half open after OPEN_S."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._results: deque[tuple[float, bool]] = deque(maxlen=1000)
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        with self._lock:
            return self._state()

    def allows(self) -> bool:
        """May a call go to this target now? While half open, only one at a time: its result decides."""
        with self._lock:
            state = self._state()
            if state == "half_open":
                if self._probing:
                    return False
                self._probing = True
            return state != "open"

    def record(self, *, ok: bool) -> None:
        """How a call to this target ended."""
        with self._lock:
            now = self._clock()
            if self._opened_at is not None:
                self._probing = False
                if ok:
                    self._opened_at = None
                    self._results.clear()
                else:
                    self._opened_at = now
                return
            self._results.append((now, ok))
            while self._results and self._results[0][0] < now - WINDOW_S:
                self._results.popleft()
            failures = sum(not good for _, good in self._results)
            if len(self._results) >= LEAST_CALLS and failures >= OPENS_AT * len(self._results):
                self._opened_at = now

    def _state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "open" if self._clock() - self._opened_at < OPEN_S else "half_open"


class FirstBytes:
    """The last times to first byte of a target, for the strategy `fastest`."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=50)

    def note(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def p50_s(self) -> float | None:
        """The median of the last 50; None before the first."""
        ordered = sorted(self._seconds)
        return ordered[len(ordered) // 2] if ordered else None

"""When to try a failed call again, and how long to wait: pure decisions, no sleeping, no clock of their own.

Attempts are counted from 1. The first goes out at once; the second after 100 ms, then 200, 400... each with up to
another 100 ms at random so that callers who failed together do not come back together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from providers.errors import ProviderError

FIRST_DELAY_S = 0.1
# A provider that asks for more than this is not worth a client's wait: the route's next target is.
RETRY_AFTER_CAP_S = 5.0
RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504, 529})


def should_retry(
    *,
    error: ProviderError,
    attempt: int,
    max_retries: int,
    elapsed_s: float,
    deadline_s: float,
    bytes_sent_to_client: bool | int,
) -> bool:
    """May a call be tried again after `attempt` attempts, the last of which failed with `error`?

    `elapsed_s` counts from the start of the first attempt, `deadline_s` is the total for all of them: a retry that
    could only begin after the deadline is refused.
    """
    if not error.retryable or bytes_sent_to_client or attempt > max_retries:
        return False
    if error.status is not None and error.status not in RETRIED_STATUSES:
        return False
    if error.retry_after_s is not None and error.retry_after_s > RETRY_AFTER_CAP_S:
        return False
    return elapsed_s + _least_delay_s(attempt=attempt + 1, error=error) < deadline_s


def delay_s(*, attempt: int, error: ProviderError | None, random: Callable[[], float]) -> float:
    """Seconds to wait before attempt number `attempt`, after `error`. `random` gives floats in [0, 1)."""
    if attempt <= 1:
        return 0.0
    return _least_delay_s(attempt=attempt, error=error) + random() * FIRST_DELAY_S


def _least_delay_s(*, attempt: int, error: ProviderError | None) -> float:
    backoff_s: float = FIRST_DELAY_S * 2 ** (attempt - 2)
    if error is None or error.retry_after_s is None:
        return backoff_s
    return max(backoff_s, min(error.retry_after_s, RETRY_AFTER_CAP_S))


def retry_after_s(*, status: int, headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds a provider asks to wait: `retry-after-ms`, or Retry-After as seconds or as an HTTP date.

    None when it asks for nothing usable, and on success: providers send Retry-After with a 200 too. `headers` must
    compare names without case.
    """
    if status < 400:
        return None
    milliseconds = _number(headers.get("retry-after-ms"))
    # Azure sends `retry-after-ms: 0` beside `retry-after: 1`.
    if milliseconds:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    return _seconds_until(text, now=now or datetime.now(UTC))


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None


def _seconds_until(http_date: str, *, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(http_date)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


class RetryBudget:
    """Retries as a share of recent requests, so that an outage upstream is not answered with a storm.

    Within the last `window_s` seconds at most `share` of the requests, and never less than `floor`, may be retried.
    Thread-safe; constant time and memory: one pair of counters a second.
    """

    def __init__(
        self,
        *,
        share: float = 0.2,
        floor: int = 10,
        window_s: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share, self._floor, self._clock = share, floor, clock
        self._requests = [0] * window_s
        self._retries = [0] * window_s
        self._second = int(clock())
        self._lock = threading.Lock()

    def record_request(self) -> None:
        """Count a first attempt."""
        with self._lock:
            self._requests[self._slot()] += 1

    def take(self) -> bool:
        """Take one retry from the budget; False when it is spent."""
        with self._lock:
            slot = self._slot()
            if sum(self._retries) >= max(self._floor, self._share * sum(self._requests)):
                return False
            self._retries[slot] += 1
            return True

    def _slot(self) -> int:
        """The counters of this second, after emptying those of the seconds that passed since the last look."""
        size = len(self._requests)
        second = int(self._clock())
        for passed in range(max(self._second + 1, second - size + 1), second + 1):
            self._requests[passed % size] = self._retries[passed % size] = 0
        self._second = max(self._second, second)
        return self._second % size

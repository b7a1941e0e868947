from __future__ import annotations

from datetime import UTC, datetime

import pytest
from requests.structures import CaseInsensitiveDict

from providers import errors
from providers.http import NotSent
from providers.retry import RetryBudget, delay_s, retry_after_s, should_retry


def refused(status: int, *, kind: type[errors.ProviderError] = errors.UpstreamError) -> errors.ProviderError:
    return kind("no", status=status)


def limited(seconds: float | None) -> errors.ProviderError:
    return errors.RateLimited("slow down", status=429, retry_after_s=seconds)


def timeout(phase: errors.Phase) -> errors.ProviderError:
    return errors.Timeout("late", timeout_s=1, phase=phase)


def retried(error: errors.ProviderError, **changes: float) -> bool:
    usual: dict[str, float] = {
        "attempt": 1,
        "max_retries": 3,
        "elapsed_s": 0.0,
        "deadline_s": 30.0,
        "bytes_sent_to_client": 0,
    }
    return should_retry(error=error, **(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConnectionFailed("broken"), True),
        (NotSent("refused"), True),
        (timeout("connect"), True),
        (timeout("first_byte"), True),
        (timeout("idle"), False),
        (timeout("total"), False),
        (limited(None), True),
        (limited(5.0), True),
        (limited(5.1), False),
        (errors.QuotaExhausted("spent", status=429), False),
        *((refused(status), True) for status in (500, 502, 503, 504, 529)),
        (refused(501), False),
        (refused(505), False),
        (refused(503, kind=errors.Overloaded), True),
        (refused(529, kind=errors.Overloaded), True),
        *((refused(status, kind=errors.InvalidRequest), False) for status in (400, 413, 422)),
        (refused(401, kind=errors.InvalidCredential), False),
        (refused(403, kind=errors.PermissionDenied), False),
        (refused(404, kind=errors.ModelNotFound), False),
        (errors.MalformedAnswer("junk"), False),
        (errors.StreamInterrupted("cut"), False),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'status', '')}" if not isinstance(value, bool) else "",
)
def test_what_is_retried(error: errors.ProviderError, expected: bool) -> None:
    assert retried(error) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attempt": 3}, True),
        ({"attempt": 4}, False),
        ({"max_retries": 0}, False),
        ({"bytes_sent_to_client": 1}, False),
        ({"elapsed_s": 29.89}, True),
        ({"elapsed_s": 29.91}, False),
        ({"elapsed_s": 29.75, "attempt": 2}, True),
        ({"elapsed_s": 29.85, "attempt": 2}, False),
        ({"elapsed_s": 31.0}, False),
    ],
)
def test_when_it_is_too_late_to_retry(changes: dict[str, float], expected: bool) -> None:
    assert retried(errors.ConnectionFailed("broken"), **changes) is expected


def test_a_wait_that_outlives_the_deadline_is_not_begun() -> None:
    assert retried(limited(4.0), elapsed_s=25.9)
    assert not retried(limited(4.0), elapsed_s=26.1)


@pytest.mark.parametrize(
    ("attempt", "error", "drawn", "expected"),
    [
        (1, None, 0.9, 0.0),
        (2, errors.ConnectionFailed("broken"), 0.0, 0.1),
        (2, errors.ConnectionFailed("broken"), 0.5, 0.15),
        (3, errors.ConnectionFailed("broken"), 0.0, 0.2),
        (4, errors.ConnectionFailed("broken"), 0.0, 0.4),
        (4, errors.ConnectionFailed("broken"), 0.99, 0.499),
        (2, limited(2.0), 0.0, 2.0),
        (2, limited(0.0), 0.0, 0.1),
        (4, limited(0.3), 0.0, 0.4),
        (2, limited(600.0), 0.0, 5.0),
    ],
)
def test_how_long_it_waits(attempt: int, error: errors.ProviderError | None, drawn: float, expected: float) -> None:
    assert delay_s(attempt=attempt, error=error, random=lambda: drawn) == pytest.approx(expected)


NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"Retry-After": "7"}, 7.0),
        (429, {"retry-after": "0.5"}, 0.5),
        (503, {"Retry-After": "Sun, 01 Mar 2026 12:00:03 GMT"}, 3.0),
        (503, {"Retry-After": "Sun, 01 Mar 2026 11:59:00 GMT"}, 0.0),
        (503, {"Retry-After": "Sun, 01 Mar 2026 12:00:03 -0000"}, 3.0),
        (429, {"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        (429, {"retry-after-ms": "soon", "Retry-After": "9"}, 9.0),
        (429, {"retry-after-ms": "0", "Retry-After": "1"}, 1.0),
        (429, {"retry-after-ms": "0"}, None),
        (429, {"Retry-After": "soon"}, None),
        (429, {"Retry-After": "-1"}, None),
        (429, {"Retry-After": "nan"}, None),
        (429, {"Retry-After": "inf"}, None),
        (429, {"Retry-After": ""}, None),
        (429, {}, None),
        (200, {"Retry-After": "7", "retry-after-ms": "7000"}, None),
    ],
)
def test_what_a_provider_asks_to_wait(status: int, headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(status=status, headers=CaseInsensitiveDict(headers), now=NOW) == expected


class Time:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def taken(budget: RetryBudget, *, tries: int = 1000) -> int:
    return sum(budget.take() for _ in range(tries))


def test_a_quiet_gateway_has_the_floor_of_retries() -> None:
    assert taken(RetryBudget(share=0.2, floor=10, clock=Time())) == 10


def test_a_busy_gateway_has_a_share_of_its_requests() -> None:
    budget = RetryBudget(share=0.2, floor=10, clock=Time())
    for _ in range(500):
        budget.record_request()
    assert taken(budget) == 100


def test_requests_and_retries_are_forgotten_after_the_window() -> None:
    time = Time()
    budget = RetryBudget(share=0.2, floor=10, window_s=10, clock=time)
    for _ in range(500):
        budget.record_request()
    assert taken(budget, tries=50) == 50
    time.now_s += 9
    assert taken(budget) == 50
    time.now_s += 1
    assert taken(budget) == 0, "the share of the first second is gone, its later retries are not"
    time.now_s += 10
    assert taken(budget) == 10


def test_a_long_silence_empties_the_window() -> None:
    time = Time()
    budget = RetryBudget(floor=10, clock=time)
    assert taken(budget) == 10
    time.now_s += 100_000
    assert taken(budget) == 10

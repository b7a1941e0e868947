"""The circuit breaker: when it opens, when it lets one call probe, and what the probe decides."""

from __future__ import annotations

from gateway.breaker import LEAST_CALLS, OPEN_S, WINDOW_S, Breaker, FirstBytes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def failing(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.record(ok=False)


def test_it_stays_closed_below_the_least_number_of_calls() -> None:
    breaker = Breaker(clock=Clock())
    failing(breaker, LEAST_CALLS - 1)
    assert breaker.state == "closed"
    assert breaker.allows()


def test_it_opens_when_half_of_the_calls_failed() -> None:
    breaker = Breaker(clock=Clock())
    for _ in range(LEAST_CALLS):
        breaker.record(ok=True)
    failing(breaker, LEAST_CALLS - 1)
    assert breaker.state == "closed"
    breaker.record(ok=False)
    assert breaker.state == "open"
    assert not breaker.allows()


def test_failures_outside_the_window_are_forgotten() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    failing(breaker, LEAST_CALLS - 1)
    clock.now += WINDOW_S + 1
    breaker.record(ok=False)
    assert breaker.state == "closed"


def test_half_open_lets_one_call_through_and_its_success_closes() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    failing(breaker, LEAST_CALLS)
    clock.now += OPEN_S
    assert breaker.state == "half_open"
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.record(ok=True)
    assert breaker.state == "closed"
    assert breaker.allows()


def test_a_failed_probe_opens_it_again() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    failing(breaker, LEAST_CALLS)
    clock.now += OPEN_S
    assert breaker.allows()
    breaker.record(ok=False)
    assert breaker.state == "open"
    clock.now += OPEN_S
    assert breaker.allows()


def test_the_median_first_byte_is_that_of_the_last_fifty() -> None:
    seen = FirstBytes()
    assert seen.p50_s() is None
    for _ in range(50):
        seen.note(9.0)
    for _ in range(50):
        seen.note(0.5)
    assert seen.p50_s() == 0.5

"""Ids: now, unique, ascending; and never left behind in the future by a clock that was ahead for a moment."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from ledger import ids

SECOND = timedelta(seconds=1)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), tz=UTC)


def test_an_id_says_when_it_was_made_and_leaves_room_for_the_attempt() -> None:
    made = ids.new_request_id()
    assert abs(ids.time_of(made) - _now()) < SECOND
    assert (made.version, made.bytes[15]) == (7, 0)


def test_ids_of_one_process_ascend_and_are_unique() -> None:
    made = [ids.new_request_id() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_a_clock_that_is_set_back_takes_the_ids_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator still stands in the future; its ids would lie in a month that has no partition."""
    real = time.time_ns
    for days in (1, 40, 0):
        monkeypatch.setattr(time, "time_ns", lambda days=days: real() - days * 86_400 * 10**9)
        made = [ids.new_request_id() for _ in range(20_000)]
        assert len(set(made)) == len(made)
        for each in (made[0], made[-1]):
            assert abs(ids.time_of(each) - _now() + timedelta(days=days)) < SECOND
            assert (each.version, each.bytes[15]) == (7, 0)

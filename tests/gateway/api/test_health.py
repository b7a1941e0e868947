"""/healthz and /readyz."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.test import Client

from gateway.api import health

pytestmark = pytest.mark.urls("gateway.api.urls")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_checks", {})
    monkeypatch.setattr(health, "_warnings", {})


def ready() -> tuple[int, dict[str, Any]]:
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()


def test_healthz_asks_nobody() -> None:
    def never() -> str | None:
        raise AssertionError("asked")

    health.register("database", never)
    # Without the django_db mark any query would fail the test too.
    answer = Client().get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok")


def test_readyz_is_200_when_every_check_is_good() -> None:
    health.register("writer", lambda: None)
    health.register("spool", lambda: None)
    assert ready() == (200, {"ready": True, "checks": {"writer": "ok", "spool": "ok"}})


def test_one_bad_check_makes_it_503_and_is_named() -> None:
    health.register("writer", lambda: None)
    health.register("spool", lambda: "3 rows wait for the database")
    assert ready() == (503, {"ready": False, "checks": {"writer": "ok", "spool": "3 rows wait for the database"}})


def test_a_check_that_breaks_is_bad_and_its_words_stay_inside() -> None:
    def broken() -> str | None:
        raise psycopg.OperationalError("connection to server at 10.0.0.7 failed")

    health.register("database", broken)
    assert ready() == (503, {"ready": False, "checks": {"database": "failed: OperationalError"}})


def test_a_warning_is_told_and_refuses_no_traffic() -> None:
    health.register("writer", lambda: None)
    health.register_warning("spare", lambda: None)
    health.register_warning("partitions", lambda: "calls lie in the default partition")
    warnings = {"partitions": "calls lie in the default partition"}
    assert ready() == (200, {"ready": True, "checks": {"writer": "ok"}, "warnings": warnings})


@pytest.mark.django_db
def test_the_default_partition_is_looked_at_by_a_connection_of_its_own() -> None:
    assert health._stray_calls() is None


@pytest.mark.django_db
def test_the_database_is_reached_by_a_connection_of_its_own() -> None:
    health.register("database", health.Probe(health._reach_database, timeout_s=30))
    assert ready() == (200, {"ready": True, "checks": {"database": "ok"}})


@pytest.mark.django_db
def test_a_database_that_nobody_reaches_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ledger.database.conninfo", lambda **_: "host=127.0.0.1 port=1 user=nobody dbname=nothing connect_timeout=2"
    )
    health.register("database", health.Probe(health._reach_database, timeout_s=30))
    assert ready() == (503, {"ready": False, "checks": {"database": "failed: OperationalError"}})


class Slow:
    """A check that answers when it is let go, and counts how often it was asked."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0
        self.answer: str | None = None

    def __call__(self) -> str | None:
        self.asked += 1
        self.go.wait(30)
        return self.answer


@pytest.fixture
def slow() -> Iterator[Slow]:
    check = Slow()
    yield check
    check.go.set()


def test_a_check_that_does_not_answer_is_waited_for_no_longer_than_its_time(slow: Slow) -> None:
    probe = health.Probe(slow, timeout_s=0.01)
    assert probe() == "no answer within 0.01 s"


def test_those_who_ask_meanwhile_wait_for_the_same_check(slow: Slow) -> None:
    probe = health.Probe(slow, timeout_s=0.01)
    assert {probe() for _ in range(5)} == {"no answer within 0.01 s"}
    assert slow.asked == 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_serves_for_a_second_and_no_longer(slow: Slow) -> None:
    slow.go.set()
    clock = Clock()
    probe = health.Probe(slow, timeout_s=30, fresh_s=1, clock=clock)
    slow.answer = "away"
    assert probe() == "away"
    slow.answer = None
    assert (probe(), slow.asked) == ("away", 1)
    clock.now = 1.0
    assert (probe(), slow.asked) == (None, 2)


def test_the_real_registry_asks_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "database" in health._checks

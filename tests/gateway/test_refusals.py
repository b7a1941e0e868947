"""What a refused client is told about its limit: which, how much, until when."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from gateway.limits import refused, resets_at, room_headers
from gateway.snapshot import LimitInfo, Snapshot
from ledger.prices import PriceBook
from ledger.writer import Refusal

NOW = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC)


def make_limit(**fields: object) -> LimitInfo:
    values = {
        "id": 5, "subject": "key", "subject_id": 1, "metric": "requests", "period": "day", "amount": Decimal(10),
        "blocks": True, "strict": True, **fields,
    }  # fmt: skip
    return LimitInfo(**values)  # type: ignore[arg-type]


def snapshot_of(*limits: LimitInfo) -> Snapshot:
    return Snapshot(version=1, targets={}, limits=limits, prices=PriceBook([]), routes={})


@pytest.mark.parametrize(("period", "at"), [
    ("minute", datetime(2027, 1, 1, tzinfo=UTC)), ("hour", datetime(2027, 1, 1, tzinfo=UTC)),
    ("day", datetime(2027, 1, 1, tzinfo=UTC)), ("week", datetime(2027, 1, 4, tzinfo=UTC)),
    ("month", datetime(2027, 1, 1, tzinfo=UTC)), ("total", None),
])  # fmt: skip
def test_periods_end_over_the_turn_of_the_year(period: str, at: datetime | None) -> None:
    assert resets_at(period, now=NOW) == at


def test_a_month_of_31_days_ends_with_its_own_month() -> None:
    assert resets_at("month", now=datetime(2026, 1, 31, tzinfo=UTC)) == datetime(2026, 2, 1, tzinfo=UTC)


def test_a_refusal_names_the_limit_and_its_reset() -> None:
    error = refused(Refusal(5, "limit"), snapshot=snapshot_of(make_limit()), call_id="c")
    assert (error.status, error.code, error.call_id) == (429, "limit_reached", "c")
    assert "10 requests a day for this key" in error.message
    assert error.headers["X-Tollbook-Limit"] == "5"
    assert 0 < int(error.headers["Retry-After"]) <= 86_400
    assert error.headers["X-Tollbook-Limit-Reset"].endswith("T00:00:00Z")


@pytest.mark.parametrize(("metric", "left"), [("requests", "0"), ("tokens", "7.5")])
def test_a_refusal_tells_the_room_of_the_limit_that_refused(metric: str, left: str) -> None:
    other = make_limit(id=6, metric=metric, amount=Decimal(99))
    snapshot = snapshot_of(make_limit(metric=metric), other)
    error = refused(Refusal(5, "limit"), snapshot=snapshot, call_id="c", room={"5": left, "6": -1})
    told = {name: value for name, value in error.headers.items() if name.startswith("x-ratelimit-")}
    assert int(told.pop(f"x-ratelimit-reset-{metric}").removesuffix("s")) <= 86_400
    assert told == {
        f"x-ratelimit-limit-{metric}": "10",
        f"x-ratelimit-remaining-{metric}": str(int(Decimal(left))),
    }


@pytest.mark.parametrize("metric", ["usd", "concurrency"])
def test_a_refusal_by_what_is_no_rate_tells_no_rate(metric: str) -> None:
    error = refused(Refusal(5, "limit"), snapshot=snapshot_of(make_limit(metric=metric)), call_id="c", room={"5": 1})
    assert not any(name.startswith("x-ratelimit-") for name in error.headers)


def test_a_total_gives_no_hope_of_a_retry() -> None:
    error = refused(Refusal(5, "limit"), snapshot=snapshot_of(make_limit(period="total")), call_id="c")
    assert "in total" in error.message
    assert "Retry-After" not in error.headers


def test_a_place_among_concurrent_calls_may_be_free_soon() -> None:
    limit = make_limit(metric="concurrency", period="total")
    assert refused(Refusal(5, "limit"), snapshot=snapshot_of(limit), call_id="c").headers["Retry-After"] == "1"


def test_a_limit_newer_than_the_snapshot_is_still_a_429() -> None:
    assert refused(Refusal(99, "limit"), snapshot=snapshot_of(), call_id="c").status == 429


def test_an_unpriced_hold_is_a_402() -> None:
    error = refused(Refusal(5, "unpriced"), snapshot=snapshot_of(make_limit(metric="usd")), call_id="c")
    assert (error.status, error.code) == (402, "unpriced_model")


def test_the_tightest_limit_is_told() -> None:
    limits = [make_limit(id=1, amount=Decimal(100)), make_limit(id=2, amount=Decimal(10))]
    headers = room_headers({"1": 50, "2": 3}, limits)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("10", "3")
    assert headers["x-ratelimit-reset-requests"].endswith("s")


def test_room_below_zero_is_told_as_none() -> None:
    assert room_headers({"5": -4}, [make_limit()])["x-ratelimit-remaining-requests"] == "0"


def test_what_only_alerts_and_what_is_in_usd_is_not_told() -> None:
    limits = [make_limit(blocks=False), make_limit(id=6, metric="usd")]
    assert room_headers({"5": 1, "6": 1}, limits) == {}

"""How a call ends in the books: what is known, what is estimated, what is unknown, what is nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gateway.settlement import Ending, ending_of_error, estimated, settle_row
from ledger.ids import call_id, new_request_id
from ledger.rating import Rate, Sheet
from ledger.rows import SettleRow
from providers.errors import (
    ConnectionFailed,
    InvalidCredential,
    InvalidRequest,
    MalformedAnswer,
    Overloaded,
    ProviderError,
    RateLimited,
    StreamInterrupted,
    Timeout,
)
from providers.http import NotSent
from providers.unified import Usage

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SHEET = Sheet(
    id=7,
    rates=(
        Rate("input", Decimal(3), 1_000_000),
        Rate("output", Decimal(15), 1_000_000),
        Rate("cache_read", Decimal("0.3"), 1_000_000),
    ),
)


def row_of(ending: Ending, *, sheet: Sheet | None = SHEET, held_sheet_id: int | None = 7) -> SettleRow:
    return settle_row(
        ending,
        call_id=call_id(request_id=new_request_id(), attempt=1),
        sheet=sheet,
        held_sheet_id=held_sheet_id,
        started_at=NOW,
        finished_at=NOW + timedelta(milliseconds=1500),
        first_token_ms=20,
    )


def ok(**totals: int) -> Ending:
    return Ending(outcome="ok", usage=Usage(totals=dict(totals), source="reported"))


def test_reported_usage_is_priced_by_disjoint_meters() -> None:
    row = row_of(ok(input=1000, cache_read=400, output=100, reasoning=60))
    assert row.cost_usd == Decimal("0.00342")  # 600 x 3 + 400 x 0.3 + 100 x 15, per million
    assert (row.input_tokens, row.cache_read_tokens, row.output_tokens, row.reasoning_tokens) == (1000, 400, 100, 60)
    assert row.meters["input"] == 600
    assert (row.cost_source, row.unpriced_reason, row.duration_ms) == ("computed", "", 1500)


def test_without_a_sheet_the_cost_is_unknown_with_a_reason() -> None:
    row = row_of(ok(input=1, output=1), sheet=None, held_sheet_id=None)
    assert (row.cost_usd, row.cost_source) == (None, "unknown")
    assert row.unpriced_reason


def test_a_meter_without_a_rate_makes_the_cost_unknown_not_smaller() -> None:
    row = row_of(ok(input=100, output=1, cache_write_5m=50))
    assert row.cost_usd is None
    assert "cache_write_5m" in row.unpriced_reason


def test_no_usage_is_unknown_where_the_provider_may_have_billed() -> None:
    row = row_of(Ending(outcome="failed", usage=Usage(), unknown_reason="it went quiet"))
    assert (row.cost_usd, row.cost_source, row.unpriced_reason) == (None, "unknown", "it went quiet")


def test_no_usage_is_nothing_where_it_cannot_have_billed() -> None:
    row = row_of(Ending(outcome="refused", usage=Usage(), may_have_billed=False))
    assert (row.cost_usd, row.cost_source, row.unpriced_reason) == (Decimal(0), "nothing_used", "")


def test_another_models_sheet_is_named_and_the_held_one_is_not_repeated() -> None:
    assert row_of(ok(input=1, output=1)).sheet is None
    assert row_of(ok(input=1, output=1), held_sheet_id=6).sheet == 7


def test_a_clock_that_went_back_makes_no_negative_duration() -> None:
    row = settle_row(
        ok(input=1, output=1), call_id=new_request_id(), sheet=SHEET, held_sheet_id=7, started_at=NOW,
        finished_at=NOW - timedelta(seconds=5), first_token_ms=None,
    )  # fmt: skip
    assert row.duration_ms == 0


@pytest.mark.parametrize(("stated", "kept"), [
    (Decimal("0.01"), Decimal("0.01")), (Decimal("NaN"), None), (Decimal("-1"), None), (Decimal("1e30"), None),
    (None, None),
])  # fmt: skip
def test_a_stated_cost_is_kept_only_where_the_ledger_can_hold_it(stated: Decimal | None, kept: Decimal | None) -> None:
    usage = Usage(totals={"input": 1, "output": 1}, source="reported", stated_cost_usd=stated)
    assert row_of(Ending(outcome="ok", usage=usage)).stated_cost_usd == kept


def test_an_estimate_fills_what_is_missing_and_lowers_nothing() -> None:
    empty = estimated(Usage(), input_tokens=30, output_bytes=9)
    assert (empty.totals, empty.source) == ({"input": 30, "output": 3}, "estimated")
    partial = estimated(Usage(totals={"input": 50, "output": 7}, source="partial"), input_tokens=30, output_bytes=9)
    assert partial.totals == {"input": 50, "output": 7}
    started = estimated(Usage(totals={"input": 50, "output": 1}, source="partial"), input_tokens=30, output_bytes=9)
    assert started.totals == {"input": 50, "output": 3}


REFUSED: list[tuple[ProviderError, str, bool]] = [
    (InvalidRequest("x", status=400), "refused", False),
    (InvalidCredential("x", status=401), "refused", False),
    (RateLimited("x", status=429), "refused", False),
    (Overloaded("x", status=529), "failed", False),
    (ConnectionFailed("x"), "failed", True),
    (NotSent("x"), "failed", False),
    (Timeout("x", timeout_s=1, phase="connect"), "failed", False),
    (Timeout("x", timeout_s=1, phase="first_byte"), "failed", True),
    (Timeout("x", timeout_s=1, phase="total"), "failed", True),
    (StreamInterrupted("x", status=200), "failed", True),
    (MalformedAnswer("x", status=200), "failed", True),
]


@pytest.mark.parametrize(("error", "outcome", "may_have_billed"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_an_error_says_about_the_bill(error: ProviderError, outcome: str, may_have_billed: bool) -> None:
    ending = ending_of_error(error)
    assert (ending.outcome, ending.may_have_billed, ending.error_code) == (outcome, may_have_billed, error.code)
    cost: Any = row_of(ending).cost_usd
    assert cost == (None if may_have_billed else 0)

"""What the server confirms is what the engine says, and what it cannot confirm the engine is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import prices, verify
from ledger.meters import to_json
from ledger.models import Call, PriceSheet, Rate
from ledger.rating import Conditions, rate
from ledger.verify import costs
from tests import factories

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


def make_sheet(*rates: dict[str, Any]) -> PriceSheet:
    sheet = factories.make_sheet(rates={}, published=False)
    for fields in rates:
        Rate.objects.create(sheet=sheet, zero_reason="free here", **fields)
    PriceSheet.objects.filter(pk=sheet.pk).update(status="published", published_at=NOW)
    return sheet


def make_call(sheet: PriceSheet, meters: dict[str, Any], **fields: Any) -> Call:
    """A call whose cost is what the engine says, unless told."""
    total = int(fields.pop("input_tokens", 1000))
    words = {name: fields.get(name, "") for name in ("service_tier", "speed", "region", "variant")}
    again = rate(
        sheet=prices.compiled(sheet), meters=meters, input_total=total, conditions=Conditions(at=NOW, **words)
    ).cost_usd
    cost = fields.pop("cost_usd", again)
    unknown: dict[str, Any] = {"cost_source": "unknown", "unpriced_reason": "no rate"} if cost is None else {}
    return factories.make_call(
        model=sheet.model, price_sheet_id=sheet.pk, meters=to_json(meters), input_tokens=total, cost_usd=cost,
        started_at=NOW, **{**unknown, **fields},
    )  # fmt: skip


def lines() -> list[str]:
    return [line for check, line in verify.differences() if check == "4 costs"]


def doubtful() -> list[Any]:
    """The calls that the engine is asked about."""
    seen: list[Any] = []
    real = costs._difference

    def asked(row: tuple[Any, ...], sheets: prices.PriceBook) -> str:
        seen.append(row[0])
        return real(row, sheets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "_difference", asked)
        assert lines() == []
    return seen


PLAIN = [{"meter": "input", "amount_usd": Decimal("2.5")}, {"meter": "output", "amount_usd": Decimal("10")}]


def test_plain_calls_never_meet_the_engine() -> None:
    sheet = make_sheet(*PLAIN, {"meter": "cache_read", "amount_usd": Decimal("0.25")})
    make_call(sheet, {"input": 700, "cache_read": 300, "output": 21, "reasoning": 4})
    make_call(sheet, {"input": 1}, service_tier="default", region="eu")
    make_call(sheet, {})
    factories.make_call(meters={}, usage_source="none", cost_usd=Decimal(0), cost_source="nothing_used")
    assert doubtful() == []


def test_each_side_of_a_cliff_is_confirmed_with_its_own_rates() -> None:
    sheet = make_sheet(*PLAIN, {"meter": "input", "amount_usd": Decimal(5), "above_tokens": 200_000},
                       {"meter": "output", "amount_usd": Decimal(20), "above_tokens": 200_000})  # fmt: skip
    for total in (199_999, 200_000, 200_001):
        make_call(sheet, {"input": total, "output": 7}, input_tokens=total)
    assert doubtful() == []
    make_call(sheet, {"input": 200_001}, input_tokens=200_001, cost_usd=Decimal("0.5000025"))
    [line] = lines()
    assert "sheet" in line


@pytest.mark.parametrize(
    ("rates", "meters", "fields"),
    [
        ([{"meter": "input", "amount_usd": Decimal("0.0000001"), "per": 1_000_000}], {"input": 7}, {}),
        ([{"meter": "input", "amount_usd": Decimal(1), "minimum": 10}], {"input": 7}, {}),
        ([{"meter": "input", "amount_usd": Decimal(1), "quantum": 10}], {"input": 7}, {}),
        ([{"meter": "input", "amount_usd": Decimal(2), "weekdays": 1}], {"input": 7}, {}),
        ([*PLAIN, {"meter": "requests", "amount_usd": Decimal(1), "per": 1000}], {"input": 7}, {}),
        ([{"meter": "audio_seconds", "amount_usd": Decimal(1), "per": 1}], {"audio_seconds": Decimal("1.5")}, {}),
        (PLAIN, {"input": 7, "web_searches": 1}, {}),
        (PLAIN, {"input": 7}, {"service_tier": "priority"}),
    ],
    ids=["13 decimals", "minimum", "quantum", "weekdays", "fee", "fraction", "no rate", "no tier"],
)  # fmt: skip
def test_what_needs_more_than_multiplication_meets_the_engine(
    rates: list[dict[str, Any]], meters: dict[str, Any], fields: dict[str, Any]
) -> None:
    call = make_call(make_sheet(*rates), meters, **fields)
    assert doubtful() == [call.pk]


@pytest.mark.parametrize(
    ("meters", "says"),
    [({"input": 1.5}, "cannot be read"), ({"input": "x"}, "cannot be read"), ({"input": -5}, "gives None"),
     ({"input": None}, "cannot be read"), ([1], "cannot be read"), ({"inputs": 5}, "gives None")],
)  # fmt: skip
def test_meters_that_make_no_sense_are_a_difference_and_not_a_crash(meters: Any, says: str) -> None:
    sheet = make_sheet(*PLAIN)
    good = make_call(sheet, {"input": 7})
    bad = factories.make_call(model=sheet.model, price_sheet_id=sheet.pk, meters=meters)
    [line] = lines()
    assert line.startswith(f"call {bad.pk}: ")
    assert says in line
    assert str(good.pk) not in line


def test_a_cost_off_by_the_last_digit_is_a_difference() -> None:
    sheet = make_sheet(*PLAIN)
    call = make_call(sheet, {"input": 7}, cost_usd=Decimal("0.000017500001"))
    assert lines() == [f"call {call.pk}: cost 0.000017500001, sheet {sheet.pk} gives 0.000017500000"]


def test_a_cost_without_usage_without_a_sheet_or_unknown_for_no_reason_is_a_difference() -> None:
    sheet = make_sheet(*PLAIN)
    spent = factories.make_call(usage_source="none")
    bare = factories.make_call()
    lost = factories.make_call(price_sheet_id=10**9)
    silent = make_call(sheet, {"input": 7}, cost_usd=None)
    found = "\n".join(lines())
    assert f"call {spent.pk}: cost 0.060000000000 without usage" in found
    assert f"call {bare.pk}: cost 0.060000000000, sheet None gives None" in found
    assert f"call {lost.pk}: its price sheet 1000000000 is not among the published ones" in found
    assert f"call {silent.pk}: cost unknown, sheet {sheet.pk} gives 0.0000175" in found


AMOUNTS = st.decimals(min_value=0, max_value=1000, places=12)
RATES = st.dictionaries(
    st.tuples(st.sampled_from(costs.COMMON), st.sampled_from([0, 500]), st.sampled_from(["", "batch"])),
    st.tuples(AMOUNTS, st.sampled_from([1, 1000, 1_000_000])), min_size=1, max_size=8,
)  # fmt: skip
METERS = st.dictionaries(st.sampled_from([*costs.COMMON, "pages"]), st.integers(0, 10**9), max_size=5)


USED = st.lists(
    st.tuples(METERS, st.sampled_from([0, 500, 501]), st.sampled_from(["", "default", "batch", "flex"])), max_size=6
)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck), database=None)
@given(rates=RATES, used=USED)
def test_whatever_the_rates_the_engine_s_cost_is_right_and_any_other_is_not(rates: Any, used: Any) -> None:
    savepoint = transaction.savepoint()
    try:
        _confirm(rates, used)
    finally:
        transaction.savepoint_rollback(savepoint)


def _confirm(rates: Any, used: Any) -> None:
    sheet = make_sheet(*(
        {"meter": meter, "above_tokens": above, "service_tier": tier, "amount_usd": amount, "per": per}
        for (meter, above, tier), (amount, per) in rates.items()
    ))  # fmt: skip
    for meters, total, tier in used:
        make_call(sheet, meters, input_tokens=total, service_tier=tier)
    assert lines() == []
    if used:
        meters, total, tier = used[0]
        right = make_call(sheet, meters, input_tokens=total, service_tier=tier).cost_usd
        cost = (right or Decimal(0)) + Decimal("0.000000000001")
        other = make_call(sheet, meters, input_tokens=total, service_tier=tier, cost_usd=cost)
        assert any(str(other.pk) in line for line in lines())

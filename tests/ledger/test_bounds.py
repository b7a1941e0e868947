"""What a hold reserves is never less than what the call can cost."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.bounds import Media, input_bound_tokens, upper_bound_usd
from ledger.meters import METERS, disjoint
from ledger.rating import Conditions, Rate, Sheet, SheetError, rate

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make_sheet(*rates: tuple[str, str], **fields: Any) -> Sheet:
    return Sheet(rates=tuple(Rate(meter, Decimal(amount), **fields) for meter, amount in rates))


def bound(sheet: Sheet, **fields: Any) -> Decimal | None:
    return upper_bound_usd(sheet=sheet, **{"input_tokens": 1_000_000, "output_tokens": 1_000_000, **fields})


PLAIN = make_sheet(("input", "1"), ("output", "10"))


def test_text_is_half_its_bytes_and_eight_a_message() -> None:
    assert input_bound_tokens(body_bytes=101, message_count=2) == 51 + 16


def test_strict_counts_a_token_a_byte() -> None:
    assert input_bound_tokens(body_bytes=101, message_count=2, strict=True) == 101 + 16


def test_inline_media_is_counted_by_the_table_and_not_as_text() -> None:
    image = [Media("image", size_bytes=300_000)]
    assert input_bound_tokens(body_bytes=400_100, media_bytes=400_000, message_count=1, media=image) == 50 + 8 + 5_000


@pytest.mark.parametrize("kind", ["image", "audio", "video", "file"])
def test_strict_is_never_below_the_expected_bound(kind: Any) -> None:
    for size in (0, 1, 10_000, 10_000_000):
        media = [Media(kind, size)]
        loose = input_bound_tokens(body_bytes=0, message_count=0, media=media)
        assert 0 < loose <= input_bound_tokens(body_bytes=0, message_count=0, media=media, strict=True)


def test_nothing_longer_than_the_context_window_is_accepted_upstream() -> None:
    assert input_bound_tokens(body_bytes=10**9, message_count=1, context_window=8_192) == 8_192


def test_it_adds_both_sides_at_their_dearest_rates() -> None:
    assert bound(PLAIN) == 11
    assert bound(make_sheet(("input", "1"), ("cache_write_1h", "2"), ("cache_read", "0.1"), ("output", "10"))) == 12
    assert bound(make_sheet(("input", "1"), ("output", "10"), ("output_audio", "20"))) == 21


def test_each_choice_may_reach_the_output_cap() -> None:
    assert bound(PLAIN, n=3) == 31


@pytest.mark.parametrize(("tokens", "expected"), [(200_000, "0.2"), (200_001, "0.400002")])
def test_a_cliff_counts_from_where_it_can_be_reached(tokens: int, expected: str) -> None:
    sheet = Sheet(rates=(Rate("input", Decimal(1)), Rate("input", Decimal(2), above_tokens=200_000)))
    assert bound(sheet, input_tokens=tokens, output_tokens=0) == Decimal(expected)


@pytest.mark.parametrize(
    ("asked", "expected"), [("", 3), ("auto", 3), ("default", 1), ("priority", 3), ("flex", 1), ("Priority", 3)]
)
def test_every_tier_that_the_answer_may_name_counts(asked: str, expected: int) -> None:
    sheet = Sheet(
        rates=(
            Rate("input", Decimal(1)),
            Rate("input", Decimal(3), service_tier="priority"),
            Rate("input", Decimal("0.5"), service_tier="flex"),
        )
    )
    assert bound(sheet, output_tokens=0, service_tier=asked) == expected


def test_flat_fees_are_added() -> None:
    sheet = Sheet(
        rates=(*PLAIN.rates, Rate("requests", Decimal(5), per=1_000), Rate("web_searches", Decimal(10), per=1_000))
    )
    assert bound(sheet) == Decimal("11.005")
    assert bound(sheet, fees={"web_searches": 5}) == Decimal("11.055")


@pytest.mark.parametrize("sheet", [make_sheet(), make_sheet(("input", "1")), make_sheet(("output", "1"))])
def test_a_sheet_that_cannot_price_a_side_has_no_bound(sheet: Sheet) -> None:
    assert bound(sheet) is None


def test_embeddings_need_no_output_rate() -> None:
    assert bound(make_sheet(("input", "1")), output_tokens=0) == 1


TIERS = ("", "priority", "flex")
TOKEN_METERS = sorted(code for code, meter in METERS.items() if meter.side)
rates_of_any_kind = st.builds(
    Rate,
    meter=st.sampled_from(TOKEN_METERS),
    amount_usd=st.decimals(min_value=0, max_value=100, places=9),
    per=st.sampled_from([1, 1_000, 1_000_000]),
    above_tokens=st.sampled_from([0, 0, 500]),
    tier_inclusive=st.booleans(),
    service_tier=st.sampled_from(TIERS),
    region=st.sampled_from(["", "eu"]),
    minimum=st.sampled_from([Decimal(0), Decimal(0), Decimal(7)]),
    quantum=st.sampled_from([Decimal(0), Decimal(0), Decimal(10)]),
    window_start=st.sampled_from([None, None, time(6)]),
).map(lambda each: each if each.window_start is None else _with_end(each))


def _with_end(each: Rate) -> Rate:
    values = {name: getattr(each, name) for name in each.__struct_fields__}
    return Rate(**{**values, "window_end": time(18)})


@settings(max_examples=300)
@given(st.data())
def test_no_usage_within_the_bounds_costs_more(data: st.DataObject) -> None:
    plain = [
        Rate("input", Decimal(1), quantum=Decimal(3)),
        Rate("output", Decimal("2.0000005")),
        Rate("requests", Decimal(1), per=1),
    ]
    rates = plain + data.draw(st.lists(rates_of_any_kind, max_size=12, unique_by=_place))
    try:
        sheet = Sheet(rates=tuple(rates))
    except SheetError:
        return
    most_in, most_out, n = data.draw(st.tuples(st.integers(0, 2_000), st.integers(0, 2_000), st.integers(1, 3)))
    used_in, used_out = data.draw(st.integers(0, most_in)), data.draw(st.integers(0, most_out * n))
    parts = data.draw(st.dictionaries(st.sampled_from(TOKEN_METERS), st.integers(0, 900)))
    asked = data.draw(st.sampled_from(["", "default", "priority", "flex"]))
    answered = data.draw(st.sampled_from([word for word in TIERS if asked in ("", word) or not word]))
    conditions = Conditions(
        at=NOW + timedelta(hours=data.draw(st.integers(0, 200))),
        service_tier=answered,
        region=data.draw(st.sampled_from(["", "eu", "us"])),
    )
    meters = disjoint({**parts, "input": used_in, "output": used_out}).meters
    rating = rate(sheet=sheet, meters=meters, input_total=used_in, conditions=conditions)
    most = upper_bound_usd(sheet=sheet, input_tokens=most_in, output_tokens=most_out, n=n, service_tier=asked)
    assert most is not None
    if rating.cost_usd is not None:
        assert rating.cost_usd <= most


def _place(each: Rate) -> tuple[object, ...]:
    return (each.meter, each.begins_at, each.service_tier, each.region, each.window_start)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 10**5), st.integers(0, 10**5))
def test_a_larger_call_never_has_a_smaller_bound(i: int, o: int, n: int, more_in: int, more_out: int) -> None:
    sheet = Sheet(
        rates=(
            Rate("input", Decimal(1)),
            Rate("input", Decimal(3), above_tokens=200_000),
            Rate("cache_write_5m", Decimal(2)),
            Rate("output", Decimal(10)),
            Rate("output", Decimal(9), above_tokens=200_000),
        )
    )
    small = upper_bound_usd(sheet=sheet, input_tokens=i, output_tokens=o, n=n)
    large = upper_bound_usd(sheet=sheet, input_tokens=i + more_in, output_tokens=o + more_out, n=n + 1)
    assert small is None or (large is not None and small <= large)


def test_lines_that_are_each_rounded_up_stay_within_the_bound() -> None:
    sheet = make_sheet(("input", "0.0000015"), ("cache_read", "0.0000015"))
    rating = rate(
        sheet=sheet, meters={"input": 1, "cache_read": 1}, input_total=2, conditions=Conditions(at=NOW)
    )
    most = upper_bound_usd(sheet=sheet, input_tokens=2, output_tokens=0)
    assert rating.cost_usd == Decimal("0.000000000004")
    assert most is not None
    assert rating.cost_usd <= most

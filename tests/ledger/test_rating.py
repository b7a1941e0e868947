"""Quantities x rates -> cost, by every rule."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.meters import Quantity
from ledger.rating import BEYOND_RANGE, NO_SHEET, Conditions, Rate, Rating, Sheet, SheetError, explain, rate

MONDAY_NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def make_rate(meter: str, amount: str, **fields: Any) -> Rate:
    return Rate(meter, Decimal(amount), **fields)


def make_sheet(*rates: Rate) -> Sheet:
    return Sheet(rates=rates)


def rated(sheet: Sheet | None, meters: dict[str, Quantity], *, input_total: int | None = None, **words: Any) -> Rating:
    total = int(meters.get("input", 0)) if input_total is None else input_total
    return rate(sheet=sheet, meters=meters, input_total=total, conditions=Conditions(**{"at": MONDAY_NOON, **words}))


def cost(*args: Any, **words: Any) -> str | None:
    usd = rated(*args, **words).cost_usd
    return None if usd is None else f"{usd.normalize():f}"


GPT_4 = make_sheet(make_rate("input", "0.0300", per=1_000), make_rate("output", "0.0600", per=1_000))


def test_gpt_4_with_1000_in_and_500_out_costs_6_cents() -> None:
    rating = rated(GPT_4, {"input": 1000, "output": 500})
    assert rating.cost_usd == Decimal("0.060000000000")
    assert str(rating.cost_usd) == "0.060000000000"
    assert [line.cost_usd for line in rating.lines] == [Decimal("0.03"), Decimal("0.03")]


def test_without_a_sheet_the_cost_is_unknown() -> None:
    assert rated(None, {"input": 1}) == Rating(None, (), NO_SHEET)


def test_nothing_used_costs_nothing() -> None:
    sheet = make_sheet(make_rate("requests", "5", per=1_000))
    assert rated(sheet, {}) == Rating(Decimal(0), ())


def test_a_meter_without_a_rate_makes_the_whole_call_unpriced() -> None:
    rating = rated(GPT_4, {"input": 10, "web_searches": 1})
    assert rating == Rating(None, (), "no rate for 'web_searches'")


@pytest.mark.parametrize("meter", ["cache_read", "cache_write_5m", "cache_write_1h", "characters", "holograms"])
def test_these_are_never_billed_as_plain_input(meter: str) -> None:
    assert rated(GPT_4, {"input": 10, meter: 1}).unpriced_reason == f"no rate for {meter!r}"


# --- roll-up ---


@pytest.mark.parametrize(
    ("meter", "parent"),
    [("reasoning", "output"), ("citation", "output"), ("output_image", "output"), ("input_audio", "input")],
)
def test_a_part_without_a_rate_is_billed_as_what_it_is_part_of(meter: str, parent: str) -> None:
    rating = rated(GPT_4, {parent: 10, meter: 5})
    assert [(line.meter, line.quantity) for line in rating.lines] == [(parent, 15)]
    assert rating.cost_usd == rated(GPT_4, {parent: 15}).cost_usd


def test_a_part_with_a_rate_is_billed_at_it() -> None:
    sheet = make_sheet(*GPT_4.rates, make_rate("reasoning", "1", per=1))
    assert cost(sheet, {"output": 0, "reasoning": 2}) == "2"


def test_a_part_priced_only_in_another_tier_does_not_roll_up() -> None:
    batch = make_rate("reasoning", "1", service_tier="batch")
    assert rated(make_sheet(*GPT_4.rates, batch), {"reasoning": 2}).unpriced_reason == "no rate for 'reasoning'"


def test_a_part_whose_parent_has_no_rate_is_unpriced() -> None:
    assert rated(make_sheet(GPT_4.rates[0]), {"reasoning": 2}).unpriced_reason == "no rate for 'output'"


def test_a_cached_modality_is_billed_as_cached_unless_its_modality_is_priced_apart() -> None:
    cached = make_rate("cache_read", "0.1")
    assert cost(make_sheet(cached), {"cache_read": 10, "cache_read_image": 10}) == "0.000002"
    apart = make_sheet(cached, make_rate("input_image", "3"))
    assert rated(apart, {"cache_read_image": 10}).unpriced_reason == "no rate for 'cache_read_image'"


# --- cliffs ---

CLIFFS = make_sheet(
    make_rate("input", "1"),
    make_rate("input", "2", above_tokens=200_000),
    make_rate("output", "10"),
    make_rate("output", "15", above_tokens=200_000),
    make_rate("web_searches", "10", per=1_000),
)
INCLUSIVE = make_sheet(
    make_rate("output", "10"), make_rate("output", "15", above_tokens=200_000, tier_inclusive=True)
)
TWO_CLIFFS = make_sheet(
    make_rate("output", "1"), make_rate("output", "2", above_tokens=1_000), make_rate("output", "3", above_tokens=2_000)
)


@pytest.mark.parametrize(
    ("sheet", "input_total", "expected"),
    [
        (CLIFFS, 0, "10"),
        (CLIFFS, 199_999, "10"),
        (CLIFFS, 200_000, "10"),
        (CLIFFS, 200_001, "15"),
        (INCLUSIVE, 199_999, "10"),
        (INCLUSIVE, 200_000, "15"),
        (INCLUSIVE, 200_001, "15"),
        (TWO_CLIFFS, 1_000, "1"),
        (TWO_CLIFFS, 1_001, "2"),
        (TWO_CLIFFS, 2_000, "2"),
        (TWO_CLIFFS, 2_001, "3"),
    ],
)
def test_the_whole_input_picks_one_tier_for_every_token(sheet: Sheet, input_total: int, expected: str) -> None:
    assert cost(sheet, {"output": 1_000_000}, input_total=input_total) == expected


def test_all_tokens_move_over_the_cliff_not_only_those_above_it() -> None:
    assert cost(CLIFFS, {"input": 200_001}) == "0.400002"


def test_a_meter_without_cliffs_keeps_its_price_above_them() -> None:
    assert cost(CLIFFS, {"web_searches": 1}, input_total=900_000) == "0.01"


def test_a_meter_priced_only_above_a_cliff_is_unpriced_below_it() -> None:
    sheet = make_sheet(make_rate("input", "2", above_tokens=100))
    assert rated(sheet, {"input": 100}).unpriced_reason == "no rate for 'input' at 100 input tokens"
    assert cost(sheet, {"input": 101}) == "0.000202"


# --- tiers and other conditions ---

TIERED = make_sheet(
    make_rate("input", "2.5"),
    make_rate("input", "5", above_tokens=272_000),
    make_rate("input", "5", service_tier="priority"),
    make_rate("output", "15"),
    make_rate("web_searches", "10", per=1_000),
)


@pytest.mark.parametrize("word", ["", "default", "standard", "auto", "DEFAULT", "on_demand", "standard_only"])
def test_words_for_the_base_tier_all_mean_the_base_tier(word: str) -> None:
    assert cost(TIERED, {"input": 1_000_000}, input_total=1, service_tier=word) == "2.5"


def test_the_answers_tier_decides() -> None:
    assert cost(TIERED, {"input": 1_000_000}, input_total=1, service_tier="priority") == "5"
    assert cost(TIERED, {"input": 1_000_000}, input_total=1, service_tier="Priority") == "5"


def test_a_tier_without_rates_for_a_meter_is_unpriced() -> None:
    assert rated(TIERED, {"output": 1}, service_tier="priority").unpriced_reason == (
        "no rate for 'output' at service tier 'priority'"
    )
    assert rated(TIERED, {"input": 1}, service_tier="scale").cost_usd is None


def test_priority_beyond_a_cliff_without_a_rate_is_unpriced_not_the_short_price() -> None:
    assert cost(TIERED, {"input": 272_000}, service_tier="priority") == "1.36"
    assert rated(TIERED, {"input": 272_001}, service_tier="priority").unpriced_reason == (
        "no rate for 'input' at service tier 'priority', 272,001 input tokens"
    )


def test_fees_cost_the_same_in_every_tier_unless_a_rate_names_it() -> None:
    assert cost(TIERED, {"web_searches": 1}, service_tier="priority") == "0.01"
    named = make_sheet(*TIERED.rates, make_rate("web_searches", "5", per=1_000, service_tier="batch"))
    assert cost(named, {"web_searches": 1}, service_tier="batch") == "0.005"
    assert cost(named, {"web_searches": 1}, service_tier="priority") == "0.01"


def test_seconds_of_audio_in_a_tier_without_a_rate_are_unpriced() -> None:
    sheet = make_sheet(make_rate("audio_seconds", "1"))
    assert rated(sheet, {"audio_seconds": 1}, service_tier="batch").cost_usd is None


def test_a_speed_needs_its_own_rate() -> None:
    sheet = make_sheet(make_rate("input", "5", per=1), make_rate("input", "10", per=1, speed="fast"))
    assert cost(sheet, {"input": 1}) == "5"
    assert cost(sheet, {"input": 1}, speed="standard") == "5"
    assert cost(sheet, {"input": 1}, speed="fast") == "10"
    assert rated(GPT_4, {"input": 1}, speed="fast").cost_usd is None


def test_a_region_that_a_rate_names_has_its_price_and_others_the_plain_one() -> None:
    sheet = make_sheet(make_rate("input", "5", per=1), make_rate("input", "6", per=1, region="eu"))
    assert cost(sheet, {"input": 1}, region="eu") == "6"
    assert cost(sheet, {"input": 1}, region="us-east-1") == "5"


def test_a_named_region_in_a_tier_that_lacks_it_is_a_missing_combination() -> None:
    sheet = make_sheet(
        make_rate("input", "5"), make_rate("input", "6", region="eu"), make_rate("input", "9", service_tier="priority")
    )
    assert rated(sheet, {"input": 1}, region="eu", service_tier="priority").unpriced_reason == (
        "no rate for 'input' at service tier 'priority', region 'eu'"
    )


def test_variants_without_a_plain_rate_price_only_themselves() -> None:
    low, high = make_rate("images", "0.04", per=1, variant="low"), make_rate("images", "0.17", per=1, variant="high")
    sheet = make_sheet(low, high)
    assert cost(sheet, {"images": 2}, variant="high") == "0.34"
    assert rated(sheet, {"images": 2}, variant="medium").unpriced_reason == "no rate for 'images'"


# --- times ---

NIGHT = make_sheet(
    make_rate("input", "4", per=1),
    make_rate("input", "1", per=1, window_start=time(22), window_end=time(6)),
    make_rate("input", "3", per=1, weekdays=0b0000001, window_start=time(23), window_end=time(23, 30)),
)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 11, 24, 12, tzinfo=UTC), "4"),
        (datetime(2026, 11, 24, 21, 59, 59, 999_999, tzinfo=UTC), "4"),
        (datetime(2026, 11, 24, 22, tzinfo=UTC), "1"),
        (datetime(2026, 11, 24, 5, 59, 59, 999_999, tzinfo=UTC), "1"),
        (datetime(2026, 11, 24, 6, tzinfo=UTC), "4"),
        (datetime(2026, 11, 24, 23, tzinfo=timezone(timedelta(hours=2))), "4"),
        (datetime(2026, 11, 23, 23, 15, tzinfo=UTC), "3"),
        (datetime(2026, 11, 24, 23, 15, tzinfo=UTC), "1"),
    ],
)
def test_windows_and_weekdays_are_utc_and_the_narrower_rate_wins(at: datetime, expected: str) -> None:
    assert cost(NIGHT, {"input": 1}, at=at) == expected


def test_a_weekend_rate_holds_on_the_weekend() -> None:
    sheet = make_sheet(make_rate("input", "4", per=1), make_rate("input", "2", per=1, weekdays=0b1100000))
    assert cost(sheet, {"input": 1}, at=datetime(2026, 11, 22, 12, tzinfo=UTC)) == "2"
    assert cost(sheet, {"input": 1}, at=MONDAY_NOON) == "4"


def test_outside_every_window_a_meter_is_unpriced() -> None:
    sheet = make_sheet(make_rate("input", "1", window_start=time(1), window_end=time(4)))
    assert rated(sheet, {"input": 1}).unpriced_reason == "no rate for 'input' at this time of the week"


# --- quantities ---


@pytest.mark.parametrize(("used", "billed"), [("0", 0), ("3", 10), ("10", 10), ("10.1", 12), ("12", 12), ("13", 14)])
def test_the_minimum_and_then_the_quantum_shape_what_is_billed(used: str, billed: int) -> None:
    sheet = make_sheet(make_rate("audio_seconds", "1", per=1, minimum=Decimal(10), quantum=Decimal(2)))
    rating = rated(sheet, {"audio_seconds": Decimal(used)})
    assert rating.cost_usd == billed
    assert [(line.quantity, line.used) for line in rating.lines] == [(billed, Decimal(used))]


def test_documents_are_billed_by_the_hundred() -> None:
    sheet = make_sheet(make_rate("search_units", "0.002", per=100, quantum=Decimal(100)))
    assert [cost(sheet, {"search_units": units}) for units in (1, 100, 101)] == ["0.002", "0.002", "0.004"]


def test_each_line_is_rounded_half_even_at_12_decimals() -> None:
    sheet = make_sheet(make_rate("input", "0.0000005"), make_rate("output", "0.0000015"))
    rating = rated(sheet, {"input": 1, "output": 1})
    assert [str(line.cost_usd) for line in rating.lines] == ["0E-12", "2E-12"]
    assert rating.cost_usd == Decimal("0.000000000002")


def test_a_call_is_one_request_unless_it_says_more() -> None:
    sheet = make_sheet(*GPT_4.rates, make_rate("requests", "12", per=1_000))
    assert cost(sheet, {"input": 1000}) == "0.042"
    assert cost(sheet, {"input": 1000, "requests": 3}) == "0.066"
    assert cost(GPT_4, {"input": 1000, "requests": 3}) == "0.03"


def test_a_zero_rate_is_a_line_with_its_reason() -> None:
    rating = rated(make_sheet(make_rate("input", "0", zero_reason="free because it is")), {"input": 5})
    assert rating.cost_usd == 0
    assert explain(rating.lines[0]) == "5 input tokens x 0 per 1,000,000 = 0 (free because it is)"


@pytest.mark.parametrize("quantity", [10**18, 10**300])
def test_an_absurd_quantity_is_unpriced_not_a_crash(quantity: int) -> None:
    assert rated(GPT_4, {"input": quantity}, input_total=1) == Rating(None, (), BEYOND_RANGE)


def test_a_negative_quantity_is_refused_by_name() -> None:
    assert rated(GPT_4, {"input": -1}).unpriced_reason == "negative quantity of 'input'"


def test_a_long_reason_fits_its_column() -> None:
    meters: dict[str, Quantity] = {f"meter_{number}": 1 for number in range(99)}
    assert len(rated(GPT_4, meters).unpriced_reason) <= 200


def test_a_small_thread_context_changes_no_cost() -> None:
    sheet = make_sheet(make_rate("input", "123456.789012345678", per=1))
    with localcontext() as context:
        context.prec = 3
        assert rated(sheet, {"input": 1_000}).cost_usd == Decimal("123456789.012345678")


def test_many_words_from_providers_do_not_pile_up() -> None:
    sheet = make_sheet(*GPT_4.rates)
    for number in range(1_000):
        rated(sheet, {"input": 1}, region=f"zone-{number}")
    assert len(sheet.views) <= 256


# --- explanations ---


def test_a_line_explains_itself() -> None:
    [line] = rated(make_sheet(make_rate("input", "0.15")), {"input": 24}).lines
    assert explain(line) == "24 input tokens x 0.15 per 1,000,000 = 0.0000036"
    assert (line.amount_usd, line.per) == (Decimal("0.15"), 1_000_000)


def test_an_explanation_names_conditions_and_steps() -> None:
    sheet = make_sheet(make_rate("audio_seconds", "36", per=1_000, service_tier="batch", minimum=Decimal(10)))
    [line] = rated(sheet, {"audio_seconds": 3}, service_tier="batch").lines
    assert explain(line) == "10 audio seconds x 36 per 1,000 = 0.36 (3 used, batch)"
    [line] = rated(CLIFFS, {"input": 300_000}).lines
    assert explain(line) == "300,000 input tokens x 2 per 1,000,000 = 0.6 (above 200,000 input tokens)"


# --- sheets that cannot be ---


@pytest.mark.parametrize(
    "rates",
    [
        [make_rate("holograms", "1")],
        [make_rate("input", "1", per=60)],
        [make_rate("input", "-1")],
        [make_rate("input", "NaN")],
        [make_rate("input", "1", minimum=Decimal("NaN"))],
        [make_rate("input", "1", minimum=Decimal("0.0000001"))],
        [make_rate("input", "1", quantum=Decimal(10**12))],
        [make_rate("input", "1", weekdays=0)],
        [make_rate("input", "1", window_start=time(1))],
        [make_rate("input", "1", window_start=time(1), window_end=time(1))],
        [make_rate("input", "1"), make_rate("input", "2")],
        [make_rate("input", "1"), make_rate("input", "2", service_tier="default")],
        [make_rate("input", "1", above_tokens=9), make_rate("input", "2", above_tokens=10, tier_inclusive=True)],
        [
            make_rate("input", "1", window_start=time(22), window_end=time(6)),
            make_rate("input", "2", window_start=time(5), window_end=time(7)),
        ],
        [
            make_rate("input", "1", weekdays=0b0000011),
            make_rate("input", "2", window_start=time(5), window_end=time(7)),
        ],
    ],
)
def test_rates_that_contradict_each_other_are_refused(rates: list[Rate]) -> None:
    with pytest.raises(SheetError):
        make_sheet(*rates)


def test_windows_that_only_touch_are_fine() -> None:
    make_sheet(
        make_rate("input", "1", window_start=time(1), window_end=time(4)),
        make_rate("input", "2", window_start=time(4), window_end=time(10)),
    )


AMOUNTS = st.decimals(min_value=0, max_value=1000, places=12)


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_cost_is_the_sum_of_its_lines(a: Decimal, b: Decimal, c: Decimal, i: int, r: int, o: int) -> None:
    sheet = make_sheet(Rate("input", a), Rate("cache_read", b, per=1_000), Rate("output", c, per=10))
    rating = rated(sheet, {"input": i, "cache_read": r, "output": o})
    assert rating.cost_usd == sum(line.cost_usd for line in rating.lines)
    for line in rating.lines:
        assert line.cost_usd == (line.amount_usd * line.quantity / line.per).quantize(Decimal("1e-12"))

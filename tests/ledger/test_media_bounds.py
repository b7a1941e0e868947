"""Bounds of what is counted, not written: images, seconds, characters, and the dearest variant of each."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger.bounds import priced_sides, upper_bound_usd
from ledger.rating import Rate, Sheet


def sheet_of(*rates: Rate) -> Sheet:
    return Sheet(id=1, rates=rates)


def image(amount: str, variant: str = "") -> Rate:
    return Rate("images", Decimal(amount), 1, variant=variant)


SIZES = sheet_of(image("0.02"), image("0.04", "standard-1024x1024"), image("0.12", "hd-1024x1792"))


@pytest.mark.parametrize(
    ("variant", "bound"),
    [("", "0.36"), ("hd-1024x1792", "0.36"), ("standard-1024x1024", "0.12"), ("low-1x1", "0.06")],
)
def test_the_dearest_variant_counts_unless_one_was_asked_for(variant: str, bound: str) -> None:
    found = upper_bound_usd(sheet=SIZES, input_tokens=0, output_tokens=0, variant=variant, fees={"images": 3})
    assert found == Decimal(bound)


def test_a_bound_for_one_variant_is_none_for_another() -> None:
    cheap, dear = (
        upper_bound_usd(sheet=SIZES, input_tokens=0, output_tokens=0, variant=variant, fees={"images": 1})
        for variant in ("standard-1024x1024", "hd-1024x1792")
    )
    assert (cheap, dear) == (Decimal("0.04"), Decimal("0.12"))


def test_the_fee_of_a_search_is_bound_by_its_dearest_context() -> None:
    rates = [Rate("requests", Decimal(fee), 1_000, variant=size) for size, fee in (("low", "5"), ("high", "12"))]
    sheet = sheet_of(Rate("input", Decimal(1), 1_000_000), Rate("output", Decimal(1), 1_000_000), *rates)
    assert upper_bound_usd(sheet=sheet, input_tokens=100, output_tokens=100) == Decimal("0.0122")


@pytest.mark.parametrize(
    ("meters", "sides"),
    [
        (("images",), (0, 0)),
        (("images", "input"), (9, 0)),
        (("images", "input", "output_image"), (9, 7)),
        (("input",), (9, 7)),
        (("requests",), (9, 7)),
        ((), (9, 7)),
    ],
)
def test_a_side_is_bound_unless_what_is_counted_is_priced_in_its_place(
    meters: tuple[str, ...], sides: tuple[int, int]
) -> None:
    sheet = sheet_of(*(Rate(meter, Decimal(1), 1) for meter in meters))
    assert priced_sides(sheet, input_tokens=9, output_tokens=7, counted={"images": 2}) == sides


def test_the_minimum_of_a_recording_is_part_of_its_bound() -> None:
    rate = Rate("audio_seconds", Decimal(111), 1_000_000, minimum=Decimal(10), quantum=Decimal(1))
    found = upper_bound_usd(sheet=sheet_of(rate), input_tokens=0, output_tokens=0, fees={"audio_seconds": 3})
    assert found is not None
    assert found >= Decimal("0.00111")

"""USD amounts: exact or refused."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import MoneyError, ceil_usd, format_short, format_usd, parse_usd, quantize_usd


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.03", "0.030000000000"),
        ("2E-7", "0.000000200000"),
        ("-1.5", "-1.500000000000"),
        (".5", "0.500000000000"),
        ("5.", "5.000000000000"),
        ("999999999999.999999999999", "999999999999.999999999999"),
        ("1.0000000000000", "1.000000000000"),
        ("1e11", "100000000000.000000000000"),
        (7, "7.000000000000"),
    ],
)
def test_it_reads_every_digit(text: str | int, amount: str) -> None:
    assert format_usd(parse_usd(text)) == amount


@pytest.mark.parametrize(
    "text",
    [
        "NaN", "sNaN", "inf", "-Infinity", "", "  ", "1_000", "1,000", "٣", "$1", "0x10", "1e", "1e9999", "1e12",
        "1e-13", "1000000000000", "0.0000000000001", "1" * 70, "--1",
    ],
)
def test_it_refuses_what_the_ledger_cannot_hold(text: str) -> None:
    with pytest.raises(MoneyError):
        parse_usd(text)


@pytest.mark.parametrize("value", [0.1, True])
def test_it_refuses_floats_and_booleans(value: object) -> None:
    with pytest.raises(MoneyError):
        parse_usd(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        ("0.0000000000005", "0.000000000000"),
        ("0.0000000000015", "0.000000000002"),
        ("0.0000000000025", "0.000000000002"),
        ("0.00000000000250001", "0.000000000003"),
    ],
)
def test_halves_go_to_the_even_digit(value: str, rounded: str) -> None:
    assert f"{quantize_usd(Decimal(value)):f}" == rounded


def test_a_bound_is_rounded_up() -> None:
    assert ceil_usd(Decimal("0.0000000000001")) == Decimal("0.000000000001")


def test_a_small_thread_context_changes_nothing() -> None:
    with localcontext() as context:
        context.prec = 3
        assert quantize_usd(Decimal("123456.789012345678")) == Decimal("123456.789012345678")


def test_texts_have_no_exponent() -> None:
    assert format_usd(Decimal("2E-7")) == "0.0000002"
    assert format_short(Decimal("0.060000000000")) == "0.06"
    assert format_short(Decimal("100")) == "100"
    assert format_short(Decimal("1E+2")) == "100"


@given(st.decimals(min_value=Decimal("-999999999999"), max_value=Decimal("999999999999"), places=12))
def test_what_is_written_is_read_back(amount: Decimal) -> None:
    assert parse_usd(format_usd(amount)) == amount
    assert parse_usd(format_short(amount)) == amount

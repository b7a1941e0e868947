from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.counts import MAX_COUNT, Counts, count, decode, decode_exact, usd


@pytest.mark.parametrize(
    ("value", "number", "wrong"),
    [
        (0, 0, ""),
        (17, 17, ""),
        (None, None, ""),
        (12.0, 12, ""),
        (Decimal("12.0"), 12, ""),
        (1.5, None, "fraction"),
        (Decimal("1.5"), None, "fraction"),
        ("17", None, "not_a_number"),
        (True, None, "not_a_number"),
        ([], None, "not_a_number"),
        ({}, None, "not_a_number"),
        (float("nan"), None, "not_a_number"),
        (float("inf"), None, "not_a_number"),
        (Decimal("NaN"), None, "not_a_number"),
        (Decimal("sNaN"), None, "not_a_number"),
        (-1, None, "negative"),
        (-2.0, None, "negative"),
        (Decimal("-1e400"), None, "negative"),
        (MAX_COUNT, MAX_COUNT, ""),
        (MAX_COUNT + 1, None, "too_large"),
        (10**300, None, "too_large"),
        (Decimal("1e400"), None, "too_large"),
    ],
)
def test_a_count_is_usable_or_named_as_wrong(value: Any, number: int | None, wrong: str) -> None:
    assert count(value) == (number, wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@given(JSON)
def test_no_value_crashes_a_count_or_makes_it_negative(value: Any) -> None:
    counts = Counts({"a": value})
    for number in (counts.get("a"), counts.get("a", "b"), counts.get("a", "b", "c"), Counts(value).get("a")):
        assert number is None or 0 <= number <= MAX_COUNT
    cost = usd(value)
    assert cost is None or cost >= 0


def test_a_flag_says_what_and_where() -> None:
    counts = Counts({"prompt_tokens": -1, "details": {"cached": "many"}, "other": 3, "none": None})
    assert counts.get("prompt_tokens") is None
    assert counts.get("details", "cached") is None
    assert counts.get("other", "inner") is None
    assert counts.get("none", "inner") is None
    assert counts.get("absent", "inner") is None
    assert counts.flags == ("negative:prompt_tokens", "not_a_number:details.cached", "not_an_object:other")


def test_a_usage_that_is_no_object_is_flagged() -> None:
    assert Counts("none today").flags == ("not_an_object:usage",)
    assert Counts(None).flags == ()


def test_the_first_usable_name_counts() -> None:
    counts = Counts({"a": None, "b": -4, "c": 0, "d": 9})
    assert counts.first(("a",), ("b",), ("c",), ("d",)) == 0


def test_a_part_larger_than_its_whole_is_clamped_and_flagged() -> None:
    counts = Counts({})
    assert counts.within(5, 5, "fitting") == 5
    assert counts.within(6, 5, "cached") == 5
    assert counts.flags == ("clamped:cached",)


def test_stated_money_keeps_the_digits_of_its_text() -> None:
    text = b'{"cost": 0.10000000000000000000000000001}'
    assert usd(decode_exact(text)["cost"]) == Decimal("0.10000000000000000000000000001")


@pytest.mark.parametrize(
    "value", [0.1, "0.1", True, None, Decimal("-0.1"), Decimal("NaN"), Decimal("Infinity"), Decimal("1e99"), {}]
)
def test_money_that_cannot_be_believed_is_not_stated(value: Any) -> None:
    assert usd(value) is None


@pytest.mark.parametrize("read", [decode, decode_exact])
def test_it_reads_json_that_only_servers_write(read: Any) -> None:
    assert read(b'{"a": NaN, "b": -Infinity, "c": "\\ud83d"}') == {"a": "NaN", "b": "-Infinity", "c": "\ud83d"}
    for broken in (b"", b"{", b"<html>", b"\xff", b"[" * 100_000):
        with pytest.raises(ValueError, match=r"."):
            read(broken)

"""Totals become quantities that do not overlap."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.meters import CACHE_WRITES, METERS, MODALITIES, Quantity, disjoint, from_json, to_json


@pytest.mark.parametrize(
    ("totals", "meters"),
    [
        ({"input": 1000, "output": 500}, {"input": 1000, "output": 500}),
        ({"input": 100, "cache_read": 60, "output": 5}, {"input": 40, "cache_read": 60, "output": 5}),
        (
            {"input": 107, "cache_read": 2, "cache_write_5m": 5, "cache_write_1h": 10, "output": 21},
            {"input": 90, "cache_read": 2, "cache_write_5m": 5, "cache_write_1h": 10, "output": 21},
        ),
        ({"input": 9, "output": 224, "reasoning": 211}, {"input": 9, "output": 13, "reasoning": 211}),
        (
            {"input": 221, "input_image": 194, "output": 1318, "output_image": 1056},
            {"input": 27, "input_image": 194, "output": 262, "output_image": 1056},
        ),
        (
            {"input": 100, "cache_read": 50, "input_audio": 40, "cache_read_audio": 30},
            {"input": 40, "cache_read": 20, "input_audio": 10, "cache_read_audio": 30},
        ),
        ({"search_units": 1, "input": 0, "output": 0}, {"search_units": 1}),
        ({"audio_seconds": Decimal("3.5")}, {"audio_seconds": Decimal("3.5")}),
        ({}, {}),
    ],
)
def test_parts_are_taken_out_of_their_totals(totals: dict[str, Quantity], meters: dict[str, Quantity]) -> None:
    assert disjoint(totals).meters == meters
    assert disjoint(totals).flags == ()


def test_image_tokens_that_must_be_cached_ones_are_counted_once() -> None:
    found = disjoint({"input": 345, "cache_read": 230, "input_image": 258, "output": 51})
    assert found.meters == {"cache_read": 87, "cache_read_image": 143, "input_image": 115, "output": 51}
    assert found.flags == ("inferred:cache_read_image",)


def test_no_more_cached_tokens_are_inferred_than_must_be() -> None:
    found = disjoint({"input": 100, "cache_read": 80, "input_image": 40, "input_audio": 30})
    assert found.meters == {"cache_read": 30, "cache_read_image": 40, "input_audio": 20, "cache_read_audio": 10}


def test_more_cached_than_input_is_clamped_and_flagged() -> None:
    found = disjoint({"input": 100, "cache_read": 162, "output": 5})
    assert found.meters == {"cache_read": 100, "output": 5}
    assert found.flags == ("clamped:cache_read",)


def test_more_reasoning_than_output_is_clamped_and_flagged() -> None:
    found = disjoint({"output": 10, "reasoning": 12})
    assert found.meters == {"reasoning": 10}
    assert found.flags == ("clamped:reasoning",)


def test_a_negative_total_counts_as_absent_and_is_flagged() -> None:
    found = disjoint({"input": -5, "output": 3})
    assert found.meters == {"output": 3}
    assert found.flags == ("negative:input",)


def test_an_unknown_code_is_kept_and_flagged() -> None:
    found = disjoint({"input": 1, "holograms": 2})
    assert found.meters == {"input": 1, "holograms": 2}
    assert found.flags == ("unknown_meter:holograms",)


def test_every_part_names_a_meter_of_its_own_side() -> None:
    for meter in METERS.values():
        if meter.part_of:
            assert METERS[meter.part_of].side == meter.side
            assert meter.family == "tokens"


def test_only_parts_that_are_no_cache_of_text_roll_up() -> None:
    never = {"input", "output", "cache_read", *CACHE_WRITES}
    assert {code for code, meter in METERS.items() if meter.side and not meter.rolls_up} == never


INPUT = ("cache_read", *CACHE_WRITES, *(f"input_{m}" for m in MODALITIES), *(f"cache_read_{m}" for m in MODALITIES))
OUTPUT = ("reasoning", "citation", *(f"output_{m}" for m in MODALITIES))


@given(
    st.dictionaries(st.sampled_from((*INPUT, *OUTPUT)), st.integers(0, 1000)),
    st.integers(0, 3000),
    st.integers(0, 3000),
)
def test_leaves_are_never_negative_and_add_up_to_the_totals(parts: dict[str, int], inputs: int, outputs: int) -> None:
    meters = disjoint({"input": inputs, "output": outputs, **parts}).meters
    assert all(quantity > 0 for quantity in meters.values())
    for side, total in (("input", inputs), ("output", outputs)):
        assert sum(quantity for code, quantity in meters.items() if METERS[code].side == side) == total


def test_json_keeps_every_digit() -> None:
    meters: dict[str, Quantity] = {"input": 5, "audio_seconds": Decimal("3.1"), "code_seconds": Decimal("2.0")}
    stored = json.loads(json.dumps(to_json(meters)))
    assert stored == {"input": 5, "audio_seconds": "3.1", "code_seconds": 2}
    assert from_json(stored) == {"input": 5, "audio_seconds": Decimal("3.1"), "code_seconds": 2}


def test_a_float_in_stored_meters_is_refused() -> None:
    with pytest.raises(TypeError, match="audio_seconds"):
        from_json({"audio_seconds": 3.1})  # type: ignore[dict-item]

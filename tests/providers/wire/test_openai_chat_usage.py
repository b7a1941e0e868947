"""The usage rules of the OpenAI family, one by one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import MalformedAnswer, ProviderError, RateLimited
from providers.unified import Usage
from providers.wire.openai_chat import WIRE, Dialect, OpenAIChat

PLAIN = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}


def usage(raw: Any, *, wire: OpenAIChat = WIRE, **answer: Any) -> Usage:
    body = {"id": "c", "model": "m", "choices": [{"message": {"content": "x"}}], "usage": raw, **answer}
    return wire.read_usage(raw if isinstance(raw, bytes) else json.dumps(body).encode())[0]


@pytest.mark.parametrize(
    ("extra", "totals"),
    [
        ({}, {"input": 100, "output": 40}),
        ({"prompt_tokens_details": {"cached_tokens": 60}}, {"input": 100, "output": 40, "cache_read": 60}),
        ({"prompt_cache_hit_tokens": 60}, {"input": 100, "output": 40, "cache_read": 60}),
        ({"cached_tokens": 60}, {"input": 100, "output": 40, "cache_read": 60}),
        ({"cache_read_input_tokens": 60}, {"input": 100, "output": 40, "cache_read": 60}),
        # A second count of the same tokens is not another discount.
        ({"num_cached_tokens": 60}, {"input": 100, "output": 40}),
        (
            {"prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50}},
            {"input": 100, "output": 40, "cache_read": 30, "cache_write_5m": 50},
        ),
        (
            {"cache_read_input_tokens": 30, "cache_creation_input_tokens": 50},
            {"input": 100, "output": 40, "cache_read": 30, "cache_write_5m": 50},
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 0, "cache_creation_input_tokens": 50}},
            {"input": 100, "output": 40, "cache_write_5m": 50},
        ),
        (
            {"prompt_tokens_details": {"audio_tokens": 20, "image_tokens": 30, "video_tokens": 5}},
            {"input": 100, "output": 40, "input_audio": 20, "input_image": 30, "input_video": 5},
        ),
        (
            {"completion_tokens_details": {"reasoning_tokens": 10, "audio_tokens": 8, "image_tokens": 2}},
            {"input": 100, "output": 40, "reasoning": 10, "output_audio": 8, "output_image": 2},
        ),
        ({"server_tool_use_details": {"web_search_requests": 2}}, {"input": 100, "output": 40, "web_searches": 2}),
    ],
)
def test_it_reads_each_detail(extra: dict[str, Any], totals: dict[str, int]) -> None:
    read = usage({**PLAIN, **extra})
    assert (read.totals, read.source, read.flags) == (totals, "reported", ())


def test_thinking_that_stands_only_in_the_total_is_output() -> None:
    read = usage({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 215})
    assert read.totals == {"input": 10, "output": 205}


def test_reasoning_beside_the_completion_is_output_by_the_total() -> None:
    """xAI's chat counts so: the total is the sum of all three."""
    details = {"completion_tokens_details": {"reasoning_tokens": 200}}
    read = usage({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 215, **details})
    assert read.totals == {"input": 10, "output": 205, "reasoning": 200}


def test_what_the_cache_held_beside_the_prompt_is_input_and_no_thinking() -> None:
    """A host that counts as Anthropic's models do, and adds up everything in its total."""
    cache = {"cache_read_input_tokens": 150, "cache_creation_input_tokens": 50}
    read = usage({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 215, **cache})
    assert read.totals == {"input": 210, "cache_read": 150, "cache_write_5m": 50, "output": 5}
    assert read.flags == ()


def test_thinking_explains_a_total_before_the_cache_does() -> None:
    same = {"prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 64}}
    read = usage({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 169, **same})
    assert read.totals == {"input": 100, "cache_read": 64, "output": 69, "reasoning": 64}


def test_a_dialect_may_say_that_the_total_means_nothing() -> None:
    wire = OpenAIChat(dialect=Dialect(unexplained_total="ignore"))
    read = usage({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 215}, wire=wire)
    assert read.totals == {"input": 10, "output": 5}


def test_audio_that_stands_only_in_the_total_is_input() -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 390, "prompt_audio_seconds": 30}
    assert usage(raw).totals == {"input": 385, "input_audio": 375, "output": 5}


def test_perplexity_counts_reasoning_and_citations_beside_the_completion() -> None:
    raw = {
        "prompt_tokens": 33,
        "completion_tokens": 100,
        "total_tokens": 133,
        "citation_tokens": 700,
        "num_search_queries": 18,
        "reasoning_tokens": 900,
        "cost": {"total_cost": 0.8},
    }
    read = usage(raw)
    assert read.totals == {"input": 33, "output": 1700, "reasoning": 900, "citation": 700, "web_searches": 18}
    assert read.stated_cost_usd == Decimal("0.8")


def test_reasoning_at_the_top_of_another_answer_is_in_the_completion() -> None:
    assert usage({**PLAIN, "reasoning_tokens": 30}).totals == {"input": 100, "output": 40, "reasoning": 30}


@pytest.mark.parametrize(
    ("extra", "totals", "flags"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 178}}, {"cache_read": 100}, ("clamped:cached_tokens",)),
        (
            {"prompt_tokens_details": {"cached_tokens": 70, "cache_write_tokens": 70}},
            {"cache_read": 70, "cache_write_5m": 30},
            ("clamped:cache_write_tokens",),
        ),
        ({"completion_tokens_details": {"reasoning_tokens": 41}}, {"reasoning": 40}, ("clamped:reasoning",)),
        (
            {"prompt_tokens_details": {"audio_tokens": 90, "image_tokens": 90}},
            {"input_audio": 90, "input_image": 10},
            ("clamped:input_image",),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": -5}},
            {},
            ("negative:prompt_tokens_details.cached_tokens",),
        ),
        ({"prompt_tokens_details": "none"}, {}, ("not_an_object:prompt_tokens_details",)),
        ({"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}}, {}, ()),
        ({"num_sources_used": 3}, {}, ("unmetered:num_sources_used",)),
    ],
)
def test_an_odd_detail_is_put_right_and_flagged(
    extra: dict[str, Any], totals: dict[str, int], flags: tuple[str, ...]
) -> None:
    read = usage({**PLAIN, **extra})
    assert read.totals == {"input": 100, "output": 40, **totals}
    assert (read.flags, read.source) == (flags, "reported")


@pytest.mark.parametrize("bad", ["40", -40, 4.5, True, 10**15, [], {}, float("nan")])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_an_unusable_count_leaves_the_usage_to_be_estimated(name: str, bad: Any) -> None:
    read = usage({**PLAIN, name: bad})
    assert (read.totals, read.source) == ({}, "none")
    assert [flag.partition(":")[2] for flag in read.flags] == [name]
    assert read.raw is not None
    assert set(read.raw) == set(PLAIN)
    json.dumps(read.raw, allow_nan=False)


@pytest.mark.parametrize(
    ("raw", "totals", "source", "flags"),
    [
        (
            {"prompt_tokens": 9, "total_tokens": 12},
            {"input": 9, "output": 3},
            "reported",
            ("derived:completion_tokens",),
        ),
        (
            {"completion_tokens": 9, "total_tokens": 12},
            {"input": 3, "output": 9},
            "reported",
            ("derived:prompt_tokens",),
        ),
        ({"completion_tokens": 9}, {"output": 9}, "partial", ()),
        ({"prompt_tokens": 9, "completion_tokens": None}, {"input": 9}, "partial", ()),
        ({"total_tokens": 9}, {}, "none", ()),
        ({}, {}, "none", ()),
        (None, {}, "none", ()),
        ("a lot", {}, "none", ("not_an_object:usage",)),
    ],
)
def test_an_absent_count_follows_from_the_total_or_stays_unknown(
    raw: Any, totals: dict[str, int], source: str, flags: tuple[str, ...]
) -> None:
    read = usage(raw)
    assert (read.totals, read.source, read.flags) == (totals, source, flags)


NUMBERS = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.booleans() | st.lists(st.integers())
DETAILS = NUMBERS | st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "reasoning_tokens"]),
    NUMBERS | st.integers(min_value=0, max_value=500),
)


@given(
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cost", "is_byok"]),
        NUMBERS | st.integers(min_value=0, max_value=500),
    ),
    DETAILS,
    DETAILS,
)
def test_no_usage_crashes_or_goes_negative(raw: dict[str, Any], prompt: Any, completion: Any) -> None:
    read = usage({**raw, "prompt_tokens_details": prompt, "completion_tokens_details": completion})
    totals = read.totals
    assert all(number >= 0 for number in totals.values())
    assert totals.get("cache_read", 0) + totals.get("cache_write_5m", 0) <= totals.get("input", 0)
    assert totals.get("reasoning", 0) <= totals.get("output", 0)
    assert read.stated_cost_usd is None or read.stated_cost_usd >= 0


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ('"cost": 0.00033', "0.00033"),
        ('"cost": 0', "0"),
        ('"cost": 0.123456789012345678901', "0.123456789012345678901"),
        ('"cost": 0.01, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.2}', "0.2"),
        ('"cost": 0.01, "is_byok": true, "cost_details": {"upstream_inference_cost": null}', "0.01"),
        ('"cost": 0.01, "is_byok": false, "cost_details": {"upstream_inference_cost": 0.2}', "0.01"),
        ('"cost": {"total_cost": 0.00504, "request_cost": 0.005}', "0.00504"),
        ('"cost_in_usd_ticks": 37756000', "0.0037756"),
        ('"cost_in_usd_ticks": 0', None),
        ('"cost": -1', None),
        ('"cost": "0.1"', None),
        ('"cost": NaN', None),
        ('"cost": 1e400', None),
    ],
)
def test_a_stated_cost_keeps_every_digit(text: str, cost: str | None) -> None:
    body = f'{{"model": "m", "choices": [], "usage": {{"prompt_tokens": 1, "completion_tokens": 1, {text}}}}}'
    read, _ = WIRE.read_usage(body.encode())
    assert read.stated_cost_usd == (None if cost is None else Decimal(cost))
    assert read.totals == {"input": 1, "output": 1}


@pytest.mark.parametrize(
    ("raw", "answer", "tier"),
    [
        (PLAIN, {"service_tier": "flex"}, "flex"),
        ({**PLAIN, "service_tier": "standard"}, {}, "standard"),
        (PLAIN, {"service_tier": ""}, ""),
        (PLAIN, {"service_tier": 7}, ""),
        (None, {"service_tier": "priority"}, "priority"),
        ({**PLAIN, "extra_properties": {"google": {"traffic_type": "ON_DEMAND_FLEX"}}}, {}, "flex"),
        ({**PLAIN, "extra_properties": {"google": {"traffic_type": "ON_DEMAND"}}}, {}, ""),
        ({**PLAIN, "extra_properties": {"google": "x"}}, {}, ""),
        ({**PLAIN, "extra_properties": 7}, {}, ""),
    ],
)
def test_the_tier_is_the_one_the_answer_names(raw: Any, answer: dict[str, Any], tier: str) -> None:
    assert usage(raw, **answer).service_tier == tier


def test_groq_may_carry_its_usage_inside_its_own_object() -> None:
    assert usage(None, x_groq={"usage": PLAIN}).totals == {"input": 100, "output": 40}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'"x"'])
def test_an_answer_that_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        WIRE.read_usage(body)


def test_an_error_inside_a_200_is_the_error() -> None:
    body = b'{"error": {"code": 429, "message": "slow down"}}'
    with pytest.raises(RateLimited, match="slow down"):
        WIRE.read_usage(body)
    with pytest.raises(ProviderError):
        WIRE.decode_answer(body)

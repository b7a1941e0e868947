"""Anthropic's counts become totals that contain everything, and no count it sends can break that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import MalformedAnswer
from providers.unified import Usage
from providers.wire.anthropic_messages import WIRE
from providers.wire.anthropic_messages import usage as usage_of


def read(model: str = "claude-sonnet-4-5", **raw: Any) -> Usage:
    usage, served = WIRE.read_usage(json.dumps({"model": model, "usage": raw}).encode())
    assert served == model
    return usage


def test_input_holds_what_was_read_from_and_written_to_the_cache() -> None:
    usage = read(
        input_tokens=3,
        cache_creation_input_tokens=2070,
        cache_read_input_tokens=500,
        cache_creation={"ephemeral_5m_input_tokens": 14, "ephemeral_1h_input_tokens": 2056},
        output_tokens=459,
    )
    assert usage.totals == {
        "input": 2573,
        "cache_read": 500,
        "cache_write_5m": 14,
        "cache_write_1h": 2056,
        "output": 459,
    }
    assert (usage.source, usage.flags) == ("reported", ())


def test_writes_without_a_split_live_five_minutes() -> None:
    assert read(input_tokens=1, cache_creation_input_tokens=9, output_tokens=1).totals["cache_write_5m"] == 9


@pytest.mark.parametrize(
    ("flat", "split", "written"),
    [
        (100, (0, 0), {"cache_write_5m": 100}),
        (100, (0, 60), {"cache_write_1h": 100}),
        (100, (60, 0), {"cache_write_5m": 100}),
        (100, (10, 60), {"cache_write_5m": 40, "cache_write_1h": 60}),
        (50, (10, 60), {"cache_write_1h": 50}),
        (None, (10, 60), {"cache_write_5m": 10, "cache_write_1h": 60}),
    ],
)
def test_the_flat_count_is_the_total_of_the_writes(
    flat: int | None, split: tuple[int, int], written: dict[str, int]
) -> None:
    usage = read(
        input_tokens=0,
        output_tokens=1,
        cache_creation_input_tokens=flat,
        cache_creation={"ephemeral_5m_input_tokens": split[0], "ephemeral_1h_input_tokens": split[1]},
    )
    assert {code: value for code, value in usage.totals.items() if "write" in code} == written
    assert usage.totals["input"] == sum(written.values())
    assert bool(usage.flags) == (flat is not None and sum(split) not in (0, flat))


def test_searches_thinking_tier_speed_and_region_are_read() -> None:
    usage = read(
        input_tokens=5,
        output_tokens=44,
        output_tokens_details={"thinking_tokens": 29},
        server_tool_use={"web_search_requests": 2, "web_fetch_requests": 1},
        service_tier="priority",
        speed="fast",
        inference_geo="us",
    )
    assert usage.totals == {"input": 5, "output": 44, "reasoning": 29, "web_searches": 2}
    assert (usage.service_tier, usage.speed, usage.region) == ("priority", "fast", "us")


@pytest.mark.parametrize(
    ("counts", "flags"),
    [
        ({"server_tool_use": {"web_fetch_requests": 3}}, ()),
        (
            {"server_tool_use": {"code_execution_requests": 2, "b_requests": 1, "c_requests": 0}},
            ("unmetered:b_requests=1", "unmetered:code_execution_requests=2"),
        ),
        ({"server_tool_use": "x"}, ("not_an_object:server_tool_use",)),
        ({"fallback_credit": {"status": {"type": "redeemed"}}}, ("unmetered:fallback_credit",)),
        ({"fallback_credit": {"status": {"type": "not_applied", "reason": "expired"}}}, ()),
        ({"fallback_credit": {"status": 7}}, ()),
    ],
    ids=str,
)
def test_what_is_on_the_bill_and_in_no_count_is_told_by_a_flag(counts: dict[str, Any], flags: tuple[str, ...]) -> None:
    usage = read(input_tokens=1, output_tokens=1, **counts)
    assert (usage.totals, usage.flags) == ({"input": 1, "output": 1}, flags)


@pytest.mark.parametrize("geo", ["not_available", "global", None, 7])
def test_a_region_that_says_nothing_is_none(geo: Any) -> None:
    assert read(input_tokens=1, output_tokens=1, inference_geo=geo).region == ""


def test_more_thinking_than_output_is_clamped_and_flagged() -> None:
    usage = read(input_tokens=1, output_tokens=5, output_tokens_details={"thinking_tokens": 50})
    assert usage.totals["reasoning"] == 5
    assert usage.flags == ("clamped:reasoning",)


def one_pass(kind: str, *, input_: int, output: int, cached: int = 0, **more: Any) -> dict[str, Any]:
    counts = {"input_tokens": input_, "output_tokens": output, "cache_read_input_tokens": cached}
    return {"type": kind, "cache_creation_input_tokens": 0, **counts, **more}


def test_a_compaction_beside_the_top_counts_is_billed() -> None:
    usage = read(
        input_tokens=23_000,
        output_tokens=1_000,
        iterations=[
            one_pass("compaction", input_=180_000, output=3_500),
            one_pass("message", input_=23_000, output=1_000),
        ],
    )
    assert usage.totals == {"input": 203_000, "output": 4_500}
    assert usage.flags == ()


def test_a_pass_of_another_model_is_summed_and_flagged() -> None:
    advisor = one_pass("advisor_message", input_=159_419, output=7_805, model="claude-opus-4-7")
    passes = [one_pass("message", input_=1, output=45, cached=100), advisor]
    usage = read(
        input_tokens=2,
        output_tokens=491,
        cache_read_input_tokens=200,
        iterations=[*passes, {**passes[0], "output_tokens": 446}],
    )
    assert usage.totals == {"input": 2 + 200 + 159_419, "output": 491 + 7_805, "cache_read": 200}
    assert usage.flags == ("iterations_other_model",)
    assert usage.raw is not None
    assert usage.raw["iterations"][1] == advisor


def test_passes_of_the_model_that_answered_are_not_flagged() -> None:
    own = one_pass("message", input_=1, output=45, model="claude-sonnet-4-5")
    assert read(input_tokens=1, output_tokens=45, iterations=[own]).flags == ()


def test_a_list_that_lacks_passes_does_not_lower_the_bill() -> None:
    usage = read(input_tokens=500, output_tokens=90, iterations=[one_pass("message", input_=100, output=20)])
    assert usage.totals == {"input": 500, "output": 90}
    assert usage.flags == ("iterations_incomplete",)


@pytest.mark.parametrize("iterations", [[], None, "x", [None], [{"type": "message", "input_tokens": None}], [5]])
def test_unusable_passes_leave_the_top_counts(iterations: Any) -> None:
    usage = read(input_tokens=7, output_tokens=3, iterations=iterations)
    assert usage.totals == {"input": 7, "output": 3}
    assert usage.source == "reported"


@pytest.mark.parametrize("odd", ["12", 1.5, -3, True, [], {}, 10**15, float("nan"), float("inf")])
def test_an_odd_count_is_flagged_and_left_out(odd: Any) -> None:
    usage = read(input_tokens=odd, output_tokens=3)
    assert usage.totals == {"output": 3}
    assert usage.source == "partial"
    assert len(usage.flags) == 1
    assert usage.flags[0].endswith(":input_tokens")


def test_without_usable_counts_the_source_is_none() -> None:
    assert read(input_tokens="x", output_tokens=-1).source == "none"
    assert WIRE.read_usage(b'{"model":"m"}')[0].source == "none"
    assert WIRE.read_usage(b'{"model":"m","usage":[1]}')[0].source == "none"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'"x"', b"[" * 100_000])
def test_an_answer_that_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        WIRE.read_usage(body)


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["input_tokens", "type", "ephemeral_5m_input_tokens"]), inner, max_size=2)
    ),
    max_leaves=5,
)
_NAMES = (
    "input_tokens",
    "output_tokens",
    "cache_creation",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "iterations",
    "server_tool_use",
    "output_tokens_details",
    "service_tier",
    "inference_geo",
)


@given(st.dictionaries(st.sampled_from(_NAMES), _JUNK) | _JUNK)
def test_no_usage_object_crashes_or_goes_negative(raw: Any) -> None:
    usage = usage_of.read(raw, model="m")
    assert all(value >= 0 for value in usage.totals.values())
    assert usage.totals.get("reasoning", 0) <= usage.totals.get("output", 0)
    assert sum(value for code, value in usage.totals.items() if code.startswith("cache")) <= usage.totals.get(
        "input", 0
    )


_COUNT = st.integers(0, 10**6)


@given(_COUNT, _COUNT, _COUNT, _COUNT, _COUNT, _COUNT)
def test_totals_written_for_a_client_read_back_the_same(
    fresh: int, cached: int, short: int, long: int, output: int, searches: int
) -> None:
    totals = {
        "cache_read": cached,
        "cache_write_5m": short,
        "cache_write_1h": long,
        "web_searches": searches,
        "reasoning": output // 2,
    }
    totals = {code: value for code, value in totals.items() if value} | {
        "input": fresh + cached + short + long,
        "output": output,
    }
    usage = Usage(totals=dict(totals), source="reported", service_tier="priority", speed="fast", region="eu")
    again = usage_of.read(usage_of.write(usage))
    assert again.totals == totals
    assert (again.source, again.flags, again.service_tier, again.speed, again.region) == (
        "reported",
        (),
        "priority",
        "fast",
        "eu",
    )

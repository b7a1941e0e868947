"""Google's counts, also those that no recording has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.meters import METERS, disjoint
from providers.unified import Usage
from providers.wire.gemini import WIRE


def usage_of(counts: Any, *, model: str = "gemini-3-pro", **candidate: Any) -> Usage:
    body = {"candidates": [{"content": {}, **candidate}], "usageMetadata": counts, "modelVersion": model}
    return WIRE.read_usage(json.dumps(body).encode())[0]


def detail(modality: str, count: Any) -> dict[str, Any]:
    return {"modality": modality, "tokenCount": count}


def test_input_is_the_prompt_and_what_tools_read_and_output_has_the_thoughts() -> None:
    usage = usage_of(
        {
            "promptTokenCount": 32,
            "toolUsePromptTokenCount": 4610,
            "candidatesTokenCount": 25,
            "thoughtsTokenCount": 37,
            "cachedContentTokenCount": 12,
            "totalTokenCount": 4704,
        }
    )
    assert usage.totals == {"input": 4642, "output": 62, "reasoning": 37, "cache_read": 12}
    assert usage.source == "reported"


def test_each_modality_is_counted_also_among_the_cached_and_what_tools_read() -> None:
    usage = usage_of(
        {
            "promptTokenCount": 1000,
            "toolUsePromptTokenCount": 50,
            "candidatesTokenCount": 1400,
            "cachedContentTokenCount": 300,
            "promptTokensDetails": [
                detail("AUDIO", 400),
                detail("DOCUMENT", 200),
                detail("IMAGE", 58),
                detail("TEXT", 9),
                {"modality": 2, "tokenCount": 5},
            ],
            "toolUsePromptTokensDetails": [detail("VIDEO", 40)],
            "cacheTokensDetails": [detail("AUDIO", 250), detail("TEXT", 50)],
            "candidatesTokensDetails": [detail("IMAGE", 1290), detail("TEXT", 110)],
        }
    )
    assert usage.totals == {
        "input": 1050,
        "output": 1400,
        "cache_read": 300,
        "cache_read_audio": 250,
        "input_audio": 400,
        "input_image": 258,
        "input_video": 40,
        "output_image": 1290,
    }
    assert set(usage.totals) <= METERS.keys()
    leaves = disjoint(usage.totals)
    assert leaves.flags == ()
    assert sum(value for code, value in leaves.meters.items() if METERS[code].side == "input") == 1050


def test_what_is_not_written_is_zero() -> None:
    usage = usage_of({"promptTokenCount": 8, "thoughtsTokenCount": 50, "totalTokenCount": 58})
    assert (usage.totals, usage.source, usage.flags) == ({"input": 8, "output": 50, "reasoning": 50}, "reported", ())


def test_an_output_that_only_the_total_knows_is_worked_out_and_flagged() -> None:
    usage = usage_of({"promptTokenCount": 8, "totalTokenCount": 58})
    assert usage.totals["output"] == 50
    assert usage.flags == ("derived:candidatesTokenCount",)


@pytest.mark.parametrize("odd", ["12", -7, 12.5, 10**30, True, [1]], ids=str)
@pytest.mark.parametrize("name", ["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"])
def test_an_odd_count_is_flagged_and_nothing_is_billed_by_it(name: str, odd: Any) -> None:
    usage = usage_of({"promptTokenCount": 8, "candidatesTokenCount": 5, name: odd})
    assert (usage.totals, usage.source) == ({}, "none")
    assert usage.flags[0].endswith(f":{name}")


@pytest.mark.parametrize("odd", [None, {}, {"trafficType": "ON_DEMAND"}, [], "x", 7], ids=str)
def test_no_counts_are_unknown_and_not_zero(odd: Any) -> None:
    usage = usage_of(odd)
    assert (usage.totals, usage.source) == ({}, "none")


def test_parts_beyond_their_whole_are_clamped_and_flagged() -> None:
    usage = usage_of(
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "cachedContentTokenCount": 12,
            "candidatesTokensDetails": [detail("AUDIO", 9)],
            "promptTokensDetails": [detail("IMAGE", -4), "nonsense", detail("IMAGE", 3)],
        }
    )
    assert usage.totals == {"input": 10, "output": 5, "cache_read": 10, "output_audio": 5, "input_image": 3}
    assert set(usage.flags) == {
        "clamped:cachedContentTokenCount",
        "clamped:output_audio",
        "negative:tokenCount@promptTokensDetails",
    }


@pytest.mark.parametrize(
    ("counts", "tier"),
    [
        ({"serviceTier": "standard"}, "standard"),
        ({"serviceTier": "SERVICE_TIER_FLEX"}, "flex"),
        ({"trafficType": "ON_DEMAND"}, ""),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned_throughput"),
        ({"trafficType": "TRAFFIC_TYPE_UNSPECIFIED"}, ""),
        # A kind that nobody knows is not billed as the plain one.
        ({"trafficType": "RESERVED"}, "reserved"),
        ({"serviceTier": "SERVICE_TIER_UNSPECIFIED"}, ""),
        ({"serviceTier": "unspecified", "trafficType": "ON_DEMAND_PRIORITY"}, "priority"),
        ({"trafficType": 1}, ""),
    ],
    ids=str,
)
def test_the_tier_that_prices_is_told(counts: dict[str, Any], tier: str) -> None:
    assert usage_of({"promptTokenCount": 1, **counts}).service_tier == tier


QUERIES = {"webSearchQueries": ["weather", "", "weather", "forecast"]}


@pytest.mark.parametrize(("model", "searches"), [("gemini-3-flash-preview", 2), ("gemini-2.5-flash", 1), ("other", 2)])
def test_searches_are_billed_each_or_by_the_prompt(model: str, searches: int) -> None:
    usage = usage_of({"promptTokenCount": 1}, model=model, groundingMetadata=QUERIES)
    assert usage.totals["web_searches"] == searches


def test_a_fetched_page_is_no_search() -> None:
    sources = {"groundingChunks": [{"web": {"uri": "https://a.example"}}]}
    assert "web_searches" not in usage_of({"promptTokenCount": 1}, groundingMetadata=sources).totals


def test_an_answer_grounded_in_maps_is_one_query() -> None:
    sources = {"groundingChunks": [{"maps": {"uri": "https://maps.example/1"}}, {"maps": {"placeId": "2"}}]}
    assert usage_of({"promptTokenCount": 1}, groundingMetadata=sources).totals["maps_queries"] == 1

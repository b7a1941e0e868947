"""The usage object of a response -> totals by meter, and of totals -> the object that a client reads.

input_tokens contains cached and written tokens and every modality; output_tokens contains reasoning. What a tool of
the provider's own costs beside tokens stands outside the usage object: see `Dialect.meter_tool_calls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct

from providers.counts import Counts
from providers.unified import Json, Usage
from providers.wire.openai_chat.answer import TIERS
from providers.wire.openai_chat.usage import stated_cost

# meter -> where its count stands: disjoint parts of `input` and of `output`.
_INPUT_PARTS = {
    "input_audio": ("input_tokens_details", "audio_tokens"),
    "input_image": ("input_tokens_details", "image_tokens"),
}
_OUTPUT_PARTS = {
    "reasoning": ("output_tokens_details", "reasoning_tokens"),
    "output_audio": ("output_tokens_details", "audio_tokens"),
    "output_image": ("output_tokens_details", "image_tokens"),
}
_CACHED = (("input_tokens_details", "cached_tokens"), ("input_tokens_details", "cache_read_input_tokens"))
_WRITTEN = (("input_tokens_details", "cache_write_tokens"), ("input_tokens_details", "cache_creation_input_tokens"))
_WRITES = {
    "cache_write_30m": ("input_tokens_details", "cache_write_tokens_details", "ttl_30m_tokens"),
    "cache_write_12h": ("input_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"),
}
# The provider's own tools that it bills by the use: meter -> the item that stands for one use.
_TOOL_ITEMS = {"web_searches": "web_search_call", "file_searches": "file_search_call"}
_IMAGE = "image_generation_call"
# Uses that a host counts and bills in the usage object itself, whatever items there are: OpenRouter, Perplexity.
_BILLED_SEARCHES = (
    ("server_tool_use_details", "web_search_requests"),
    ("server_tool_use", "web_search_requests"),
    ("tool_calls_details", "search_web", "invocation"),
)
# Perplexity's tools, each {"invocation": uses}.
_PERPLEXITY_TOOLS = "tool_calls_details"
# xAI's own count of its tools. Calls of the customer's own servers (mcp) are free.
_XAI_TOOLS = "server_side_tool_usage_details"
_XAI_STATED = {"web_searches": "web_search_calls", "file_searches": "file_search_calls"}
_XAI_KNOWN = frozenset({*_XAI_STATED.values(), "mcp_calls"})


class Dialect(Struct, frozen=True):
    """What differs among the servers that speak this wire.

    `meter_tool_calls`: count web and file searches as meters of their own, which a price sheet must then price. When
    not, they are told by a flag ("unmetered:web_searches=2"): hosts of this wire bill them differently or not at all.
    """

    meter_tool_calls: bool = False


def read(response: Json, *, exact: Json, dialect: Dialect) -> Usage:
    """Usage of one response object, decoded twice: to keep, and with Decimals to bill.

    Source "reported" with both input and output, "partial" with one of them, "none" with neither.
    """
    raw = response.get("usage")
    counts = Counts(exact.get("usage"))
    totals, known = _totals(counts)
    flags: list[str] = []
    if raw is not None:
        _add_tool_calls(totals, response, counts, dialect, flags)
    tier = response.get("service_tier")
    return Usage(
        totals=totals,
        source="reported" if known == 2 else "partial" if known else "none",
        raw=raw if isinstance(raw, dict) else None,
        flags=(*counts.flags, *flags),
        service_tier=tier if isinstance(tier, str) else "",
        stated_cost_usd=stated_cost(counts.raw),
    )


def _totals(counts: Counts) -> tuple[dict[str, int | Decimal], int]:
    """(totals, how many of input and output are usable)."""
    totals: dict[str, int | Decimal] = {}
    whole_in, whole_out = counts.get("input_tokens"), counts.get("output_tokens")
    if counts.flags:
        return {}, 0
    if whole_in is not None:
        totals["input"] = whole_in
        read_tokens = counts.within(counts.first(*_CACHED) or 0, whole_in, "cached_tokens")
        _put(totals, "cache_read", read_tokens)
        _add_written(totals, counts, whole_in - read_tokens)
        _add_parts(totals, counts, _INPUT_PARTS, whole_in)
    if whole_out is not None:
        totals["output"] = whole_out
        _add_parts(totals, counts, _OUTPUT_PARTS, whole_out)
    return totals, (whole_in is not None) + (whole_out is not None)


def _add_written(totals: dict[str, int | Decimal], counts: Counts, left: int) -> None:
    """Cache writes by their lifetime; what has none is written for the shortest."""
    written = counts.first(*_WRITTEN) or 0
    written = counts.within(written, left, "cache_write_tokens")
    for meter, path in _WRITES.items():
        part = counts.within(counts.get(*path) or 0, written, meter)
        _put(totals, meter, part)
        written -= part
    _put(totals, "cache_write_5m", written)


def _add_parts(
    totals: dict[str, int | Decimal], counts: Counts, parts: Mapping[str, tuple[str, ...]], whole: int
) -> None:
    left = whole
    for meter, path in parts.items():
        part = counts.within(counts.get(*path) or 0, left, meter)
        _put(totals, meter, part)
        left -= part


def _put(totals: dict[str, int | Decimal], meter: str, number: int) -> None:
    if number:
        totals[meter] = number


# --- tools --------------------------------------------------------------------------------------------------


def _add_tool_calls(
    totals: dict[str, int | Decimal], response: Json, counts: Counts, dialect: Dialect, flags: list[str]
) -> None:
    billed = counts.first(*_BILLED_SEARCHES)
    if billed:
        totals["web_searches"] = billed
    for meter, item_type in _TOOL_ITEMS.items():
        if meter in totals:
            continue
        number = _stated_calls(meter, response, counts)
        if number is None:
            number = sum(1 for item in _items(response) if item.get("type") == item_type and _is_search(item))
        if number and dialect.meter_tool_calls:
            totals[meter] = number
        elif number:
            flags.append(f"unmetered:{meter}={number}")
    flags.extend(_other_tools(counts))
    flags.extend(_made_by_tools(response))


def _stated_calls(meter: str, response: Json, counts: Counts) -> int | None:
    """The provider's own count of a tool's uses, where it gives one."""
    openai = _dict(response.get("tool_usage")) if meter == "web_searches" else {}
    stated = Counts(openai).get("web_search", "num_requests")
    return stated if stated is not None else counts.get(_XAI_TOOLS, _XAI_STATED[meter])


def _other_tools(counts: Counts) -> list[str]:
    """Uses of xAI's and Perplexity's tools that no meter stands for: billed by the call, in the stated cost alone."""
    xai = _dict(counts.raw.get(_XAI_TOOLS)).keys() - _XAI_KNOWN
    perplexity = _dict(counts.raw.get(_PERPLEXITY_TOOLS)).keys() - {"search_web"}
    used = {name: counts.get(_XAI_TOOLS, name) for name in sorted(xai)}
    used |= {name: counts.get(_PERPLEXITY_TOOLS, name, "invocation") for name in sorted(perplexity)}
    return [f"unmetered:{name}={number}" for name, number in used.items() if number]


def _made_by_tools(response: Json) -> list[str]:
    """Images, billed at the rates of a model that the response does not name; and containers in which code ran, billed
    by a session that may have begun with an earlier response. https://platform.openai.com/docs/pricing
    """
    drawn = Counts(_dict(response.get("tool_usage")).get("image_gen")).get("total_tokens")
    items = list(_items(response))
    ran_in = {str(item.get("container_id")) for item in items if item.get("type") == "code_interpreter_call"}
    images = ["unmetered:image_gen"] if drawn or any(item.get("type") == _IMAGE for item in items) else []
    return images + ([f"unmetered:code_sessions={len(ran_in)}"] if ran_in else [])


def _is_search(item: Json) -> bool:
    """Opening a page that a search found is an item of the same type, and no search."""
    action = item.get("action")
    return not isinstance(action, dict) or action.get("type", "search") == "search"


def _items(response: Json) -> Iterable[Json]:
    output = response.get("output")
    return (item for item in (output if isinstance(output, list) else ()) if isinstance(item, dict))


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


# --- to the client ------------------------------------------------------------------------------------------


def write(usage: Usage) -> Json:
    """A `usage` object; this wire demands numbers, so a count that nobody reported is written as 0."""
    totals = usage.totals
    given, made = int(totals.get("input", 0)), int(totals.get("output", 0))
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": int(totals.get("cache_read", 0)),
            "cache_write_tokens": sum(int(count) for code, count in totals.items() if code.startswith("cache_write")),
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": int(totals.get("reasoning", 0))},
        "total_tokens": given + made,
    }


def known_tier(usage: Usage) -> str | None:
    """The tier, if it is a word that OpenAI's own clients know; they check it."""
    return usage.service_tier if usage.service_tier in TIERS else None

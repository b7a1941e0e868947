"""The usage object of a response -> totals by meter, and of totals -> the object that a client reads.

input_tokens contains cached and written tokens and every modality; output_tokens contains reasoning. What a tool of
the provider's own costs beside tokens stands outside the usage object: see `Dialect.meter_tool_calls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct

from providers.counts import Counts, usd
from providers.unified import Json, Usage

_TICKS_PER_USD = Decimal(10**10)

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
_WRITES = {
    "cache_write_30m": ("input_tokens_details", "cache_write_tokens_details", "ttl_30m_tokens"),
    "cache_write_12h": ("input_tokens_details", "cache_write_tokens_details", "ttl_12h_tokens"),
}
# The provider's own tools that it bills by the use: meter -> the item that stands for one use.
_TOOL_ITEMS = {"web_searches": "web_search_call", "file_searches": "file_search_call"}
_TIERS = frozenset({"auto", "default", "flex", "scale", "priority"})


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
        stated_cost_usd=_stated_cost(counts.raw),
    )


def _totals(counts: Counts) -> tuple[dict[str, int | Decimal], int]:
    """(totals, how many of input and output are usable)."""
    totals: dict[str, int | Decimal] = {}
    whole_in, whole_out = counts.get("input_tokens"), counts.get("output_tokens")
    if counts.flags:
        return {}, 0
    if whole_in is not None:
        totals["input"] = whole_in
        read_tokens = counts.within(counts.get("input_tokens_details", "cached_tokens") or 0, whole_in, "cached_tokens")
        _put(totals, "cache_read", read_tokens)
        _add_written(totals, counts, whole_in - read_tokens)
        _add_parts(totals, counts, _INPUT_PARTS, whole_in)
    if whole_out is not None:
        totals["output"] = whole_out
        _add_parts(totals, counts, _OUTPUT_PARTS, whole_out)
    return totals, (whole_in is not None) + (whole_out is not None)


def _add_written(totals: dict[str, int | Decimal], counts: Counts, left: int) -> None:
    """Cache writes by their lifetime; what has none is written for the shortest."""
    written = counts.get("input_tokens_details", "cache_write_tokens") or 0
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
    for meter, item_type in _TOOL_ITEMS.items():
        number = _stated_calls(meter, response, counts)
        if number is None:
            number = sum(1 for item in _items(response) if item.get("type") == item_type and _is_search(item))
        if number and dialect.meter_tool_calls:
            totals[meter] = number
        elif number:
            flags.append(f"unmetered:{meter}={number}")
    drawn = Counts(_dict(response.get("tool_usage")).get("image_gen"))
    if drawn.get("total_tokens"):
        # Billed at the rates of an image model, which the response does not name.
        flags.append("unmetered:image_gen")


def _stated_calls(meter: str, response: Json, counts: Counts) -> int | None:
    """The provider's own count of a tool's uses, where it gives one."""
    if meter != "web_searches":
        return None
    stated = Counts(_dict(response.get("tool_usage"))).get("web_search", "num_requests")
    return stated if stated is not None else counts.get("server_side_tool_usage_details", "web_search_calls")


def _is_search(item: Json) -> bool:
    """Opening a page that a search found is an item of the same type, and no search."""
    action = item.get("action")
    return not isinstance(action, dict) or action.get("type", "search") == "search"


def _items(response: Json) -> Iterable[Json]:
    output = response.get("output")
    return (item for item in (output if isinstance(output, list) else ()) if isinstance(item, dict))


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _stated_cost(usage: Json) -> Decimal | None:
    """The bill as the provider states it, in USD.

    OpenRouter: `cost`, or what the upstream charges where the key is the customer's own. xAI: `cost_in_usd_ticks`,
    where zero is what other hosts of its models write for "not stated".
    """
    if usage.get("is_byok") is True:
        upstream = usd(_dict(usage.get("cost_details")).get("upstream_inference_cost"))
        if upstream is not None:
            return upstream
    cost = usage.get("cost")
    ticks = usage.get("cost_in_usd_ticks")
    if cost is None and isinstance(ticks, int) and not isinstance(ticks, bool) and ticks > 0:
        return usd(Decimal(ticks) / _TICKS_PER_USD)
    return usd(cost)


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
    return usage.service_tier if usage.service_tier in _TIERS else None

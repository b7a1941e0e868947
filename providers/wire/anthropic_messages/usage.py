"""Anthropic's counts. `input_tokens` leaves out what was read from and written to the cache; our `input` holds all.

An answer made of several passes lists them in `iterations`. What is billed is their sum: the counts beside the list
leave out compaction and advisor passes (https://platform.claude.com/docs/en/build-with-claude/compaction).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from providers.counts import Counts
from providers.unified import NO_USAGE, Json, Usage, UsageSource

_CACHE_5M = "ephemeral_5m_input_tokens"
_CACHE_1H = "ephemeral_1h_input_tokens"
_TIERS = frozenset({"standard", "priority", "batch"})
# Tools of the provider's own that are metered, or free (a fetched page costs its tokens).
_KNOWN_TOOLS = frozenset({"web_search_requests", "web_fetch_requests"})


def read(raw: Any, *, model: str = "") -> Usage:
    """Totals of one `usage` object; `model` is the one that answered. Odd counts are flagged and left out.

    source: "reported" with both input and output, "partial" with one of them, "none" with neither.
    """
    if raw is None:
        return NO_USAGE
    counts = Counts(raw)
    flags: list[str] = []
    totals, usable = _passes(counts, model=model, flags=flags)
    reasoning = counts.get("output_tokens_details", "thinking_tokens") or 0
    if "output" in totals:
        totals["reasoning"] = counts.within(reasoning, totals["output"], "reasoning")
    totals["web_searches"] = counts.get("server_tool_use", "web_search_requests") or 0
    flags.extend(_unmetered(counts))
    source: UsageSource = ("none", "partial", "reported")[usable]
    return Usage(
        totals={code: value for code, value in totals.items() if value or code in ("input", "output")},
        source=source,
        raw=raw if isinstance(raw, dict) else None,
        flags=(*counts.flags, *flags),
        service_tier=_word(counts.raw.get("service_tier")),
        speed=_word(counts.raw.get("speed")),
        region=_region(counts.raw.get("inference_geo")),
    )


def merge(start: Json, delta: Json) -> Json:
    """The usage of a stream: what `message_delta` names replaces what `message_start` said, field by field."""
    return {**start, **{key: value for key, value in delta.items() if value is not None}}


def write(usage: Usage) -> Json:
    """A `usage` object from totals. This wire demands numbers: a count nobody reported is written as 0."""
    totals = usage.totals
    read_tokens = _whole(totals.get("cache_read"))
    hour = _whole(totals.get("cache_write_1h"))
    written = sum(_whole(value) for code, value in totals.items() if code.startswith("cache_write"))
    said: Json = {
        "input_tokens": max(0, _whole(totals.get("input")) - read_tokens - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read_tokens,
        "cache_creation": {_CACHE_5M: written - hour, _CACHE_1H: hour},
        "output_tokens": _whole(totals.get("output")),
    }
    if totals.get("reasoning"):
        said["output_tokens_details"] = {"thinking_tokens": _whole(totals["reasoning"])}
    if totals.get("web_searches"):
        said["server_tool_use"] = {"web_search_requests": _whole(totals["web_searches"]), "web_fetch_requests": 0}
    tier = {"default": "standard"}.get(usage.service_tier, usage.service_tier)
    if tier in _TIERS:
        said["service_tier"] = tier
    if usage.speed:
        said["speed"] = usage.speed
    if usage.region:
        said["inference_geo"] = usage.region
    return said


def _passes(counts: Counts, *, model: str, flags: list[str]) -> tuple[dict[str, int], int]:
    """(totals, how many of input and output are usable): the sum of the passes, or the counts beside them."""
    total, usable = _one(counts)
    iterations = counts.raw.get("iterations")
    if not isinstance(iterations, list) or not iterations:
        return total, usable
    summed: dict[str, int] = {}
    for index, entry in enumerate(iterations):
        part = Counts(entry)
        totals, fine = _one(part)
        if fine < 2:
            flags.append("iterations_unusable")
            return total, usable
        flags.extend(f"{flag}@iterations[{index}]" for flag in part.flags)
        if _other_model(part.raw, model) and "iterations_other_model" not in flags:
            flags.append("iterations_other_model")
        for code, value in totals.items():
            summed[code] = summed.get(code, 0) + value
    # A list that lacks passes (an early one in a stream that was not repeated at its end) must not lower the bill.
    if any(summed.get(code, 0) < total.get(code, 0) for code in ("input", "output")):
        flags.append("iterations_incomplete")
        return total, usable
    return summed, 2


def _unmetered(counts: Counts) -> list[str]:
    """What is on the bill and in no count: uses of other tools, and a credit that prices the tokens anew."""
    flags: list[str] = []
    tools = counts.raw.get("server_tool_use")
    for name in tools.keys() - _KNOWN_TOOLS if isinstance(tools, dict) else ():
        number = counts.get("server_tool_use", name)
        if number:
            flags.append(f"unmetered:{name}={number}")
    credit = counts.raw.get("fallback_credit")
    status = credit.get("status") if isinstance(credit, dict) else None
    if isinstance(status, dict) and status.get("type") == "redeemed":
        flags.append("unmetered:fallback_credit")
    return sorted(flags)


def _one(counts: Counts) -> tuple[dict[str, int], int]:
    """The totals of one pass, and how many of its input and output counts are usable."""
    fresh, output = counts.get("input_tokens"), counts.get("output_tokens")
    written_5m, written_1h = _written(counts)
    cached = counts.get("cache_read_input_tokens") or 0
    totals: dict[str, int] = {}
    if fresh is not None:
        totals["input"] = fresh + cached + written_5m + written_1h
        totals |= {"cache_read": cached, "cache_write_5m": written_5m, "cache_write_1h": written_1h}
    if output is not None:
        totals["output"] = output
    return totals, (fresh is not None) + (output is not None)


def _written(counts: Counts) -> tuple[int, int]:
    """(5 minute, 1 hour) cache writes. The flat count is the total: in a stream it is later than the split.

    Without a split all is 5 minutes, which is this wire's default. Where the total differs from the split, the rest
    belongs to the only lifetime that was seen.
    """
    flat = counts.get("cache_creation_input_tokens")
    short = counts.get("cache_creation", _CACHE_5M) or 0
    long = counts.get("cache_creation", _CACHE_1H) or 0
    if flat is None or flat == short + long:
        return short, long
    if short + long:
        counts.flag("cache_write_split_differs")
    if long and not short:
        return 0, flat
    long = min(long, flat)
    return flat - long, long


def _other_model(entry: Json, model: str) -> bool:
    """Whether a pass was made by another model than the one that answered."""
    if entry.get("type") == "advisor_message":
        return True
    served = entry.get("model")
    return isinstance(served, str) and bool(served) and bool(model) and served != model


def _region(value: Any) -> str:
    region = _word(value)
    return "" if region in ("not_available", "global") else region


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: int | Decimal | None) -> int:
    return int(value or 0)

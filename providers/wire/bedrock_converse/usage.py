"""Bedrock's counts. `inputTokens` leaves out what was read from and written to the cache; our `input` holds all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from providers.counts import Counts
from providers.unified import Json, Usage, UsageSource

_TTLS = {"5m": "cache_write_5m", "1h": "cache_write_1h"}
# Older answers have the names with Count beside or instead of the plain ones.
_READ = (("cacheReadInputTokens",), ("cacheReadInputTokenCount",))
_WRITTEN = (("cacheWriteInputTokens",), ("cacheWriteInputTokenCount",))


def read(holder: Json) -> Usage:
    """Usage of a whole answer or of a stream's `metadata` event: both hold `usage`, `serviceTier`, `performanceConfig`.

    source: "reported" with both input and output, "partial" with one of them, "none" with neither.
    """
    raw = holder.get("usage")
    counts = Counts(raw)
    totals, known = _totals(counts)
    source: UsageSource = ("none", "partial", "reported")[known]
    flags = list(counts.flags)
    if counts.raw.get("serverToolUsage"):
        flags.append("unmetered:serverToolUsage")
    return Usage(
        totals={code: value for code, value in totals.items() if value or code in ("input", "output")},
        source=source,
        raw=raw if isinstance(raw, dict) else None,
        flags=tuple(flags),
        service_tier=_word(holder.get("serviceTier"), "type"),
        # Only the optimized latency has a price of its own.
        speed="optimized" if _word(holder.get("performanceConfig"), "latency") == "optimized" else "",
    )


def _totals(counts: Counts) -> tuple[dict[str, int | Decimal], int]:
    """(totals, how many of input and output are usable)."""
    fresh, made = counts.get("inputTokens"), counts.get("outputTokens")
    cached, written = counts.first(*_READ) or 0, counts.first(*_WRITTEN) or 0
    totals: dict[str, int | Decimal] = {}
    if fresh is not None:
        totals["input"] = fresh + cached + written
        totals["cache_read"] = cached
        totals.update(_by_lifetime(counts, written))
    if made is not None:
        totals["output"] = made
    return totals, (fresh is not None) + (made is not None)


def _by_lifetime(counts: Counts, written: int) -> dict[str, int | Decimal]:
    """What was written to the cache, by how long it stays; what no detail names is kept for the shortest time."""
    totals: dict[str, int | Decimal] = {}
    left = written
    details = counts.raw.get("cacheDetails")
    for entry in details if isinstance(details, list) else ():
        detail = Counts(entry)
        meter = _TTLS.get(str(detail.raw.get("ttl")))
        number = counts.within(detail.get("inputTokens") or 0, left, "cacheDetails")
        if meter and number:
            totals[meter] = totals.get(meter, 0) + number
            left -= number
    if left:
        totals["cache_write_5m"] = totals.get("cache_write_5m", 0) + left
    return totals


def write(usage: Usage) -> Json:
    """What an answer says of its usage: `usage`, and the tier and speed where they are known."""
    totals = usage.totals
    cached = int(totals.get("cache_read", 0))
    by_ttl = {ttl: int(totals.get(meter, 0)) for ttl, meter in _TTLS.items()}
    written = sum(int(count) for code, count in totals.items() if code.startswith("cache_write"))
    given, made = int(totals.get("input", 0)), int(totals.get("output", 0))
    said: Json = {
        "inputTokens": max(0, given - cached - written),
        "outputTokens": made,
        "totalTokens": given + made,
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": written,
    }
    details = [{"ttl": ttl, "inputTokens": count} for ttl, count in by_ttl.items() if count]
    if details:
        said["cacheDetails"] = details
    whole: Json = {"usage": said}
    if usage.service_tier:
        whole["serviceTier"] = {"type": usage.service_tier}
    if usage.speed:
        whole["performanceConfig"] = {"latency": usage.speed}
    return whole


def _word(value: Any, key: str) -> str:
    word = value.get(key) if isinstance(value, dict) else None
    return word if isinstance(word, str) else ""

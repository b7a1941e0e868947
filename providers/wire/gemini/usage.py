"""Google's counts. promptTokenCount contains the cached ones; what tools read is counted beside it, thoughts beside
the candidates. A zero is not written at all. https://ai.google.dev/api/generate-content#UsageMetadata
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from providers.counts import Counts
from providers.unified import NO_USAGE, Json, Usage
from providers.wire import tiers
from providers.wire.gemini.names import objects

# A page of a document is read as an image, and billed as one.
_MODALITIES = {"IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video", "AUDIO": "audio"}
_WHOLES = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")


def read(raw: Any, *, searches: int = 0, maps: int = 0) -> Usage:
    """Totals of one `usageMetadata` and of the grounding beside it. Odd counts are flagged and left out.

    source: "reported" with an input count and a word on the output, "partial" without the latter, "none" without an
    input count or with a whole that cannot be used.
    """
    flat = {name: number for name, number in (("web_searches", searches), ("maps_queries", maps)) if number}
    if raw is None:
        return Usage(totals=dict(flat), source="partial") if flat else NO_USAGE
    counts = Counts(raw)
    totals = _totals(counts)
    reported = "output" in totals
    if "input" in totals:
        _add_input_parts(totals, counts)
    if reported:
        _add_output_parts(totals, counts)
    return Usage(
        totals={**totals, **flat},
        source="reported" if reported else ("partial" if totals or flat else "none"),
        raw=raw if isinstance(raw, dict) else None,
        flags=counts.flags,
        service_tier=_tier(counts.raw),
    )


def has_counts(raw: Json) -> bool:
    """Vertex begins its streams with a usage that holds the kind of traffic alone."""
    return any(name in raw for name in _WHOLES)


def write(usage: Usage) -> Json:
    """`usageMetadata` from totals."""
    totals = usage.totals
    prompt, output, reasoning = (_whole(totals.get(name)) for name in ("input", "output", "reasoning"))
    said: Json = {"promptTokenCount": prompt, "candidatesTokenCount": max(0, output - reasoning)}
    if reasoning:
        said["thoughtsTokenCount"] = reasoning
    if totals.get("cache_read"):
        said["cachedContentTokenCount"] = _whole(totals["cache_read"])
    for field, prefix in (("promptTokensDetails", "input"), ("candidatesTokensDetails", "output")):
        details = _details(usage, prefix)
        if details:
            said[field] = details
    said["totalTokenCount"] = prompt + output
    if usage.service_tier:
        said["serviceTier"] = usage.service_tier
    return said


def partial(usage: Usage) -> Usage:
    """What is known before a stream is over."""
    return msgspec.structs.replace(usage, source="partial") if usage.source == "reported" else usage


def _totals(counts: Counts) -> dict[str, int | Decimal]:
    prompt, candidates, thoughts, tools = (counts.get(name) for name in _WHOLES)
    if counts.flags:
        return {}
    total = counts.get("totalTokenCount")
    if prompt is None:
        return {}
    whole_input = prompt + (tools or 0)
    if candidates is None and thoughts is None and total is None:
        # A zero is not written, but then the total says so.
        return {"input": whole_input}
    output = (candidates or 0) + (thoughts or 0)
    if candidates is None and total is not None and total > whole_input + output:
        counts.flag("derived:candidatesTokenCount")
        output = total - whole_input
    totals: dict[str, int | Decimal] = {"input": whole_input, "output": output}
    if thoughts:
        totals["reasoning"] = thoughts
    return totals


def _add_input_parts(totals: dict[str, int | Decimal], counts: Counts) -> None:
    whole = int(totals["input"])
    cached = counts.within(counts.get("cachedContentTokenCount") or 0, whole, "cachedContentTokenCount")
    _put(totals, "cache_read", cached)
    for modality, number in _by_modality(counts, "promptTokensDetails", "toolUsePromptTokensDetails").items():
        _put(totals, f"input_{modality}", counts.within(number, whole, f"input_{modality}"))
    for modality, number in _by_modality(counts, "cacheTokensDetails").items():
        _put(totals, f"cache_read_{modality}", counts.within(number, cached, f"cache_read_{modality}"))


def _add_output_parts(totals: dict[str, int | Decimal], counts: Counts) -> None:
    whole = int(totals["output"])
    for modality, number in _by_modality(counts, "candidatesTokensDetails").items():
        _put(totals, f"output_{modality}", counts.within(number, whole, f"output_{modality}"))


def _by_modality(counts: Counts, *fields: str) -> dict[str, int]:
    """Tokens by modality; text is what no other modality is. Unusable numbers are flagged by their field."""
    found: dict[str, int] = {}
    for field in fields:
        for entry in objects(counts.raw.get(field)):
            name = entry.get("modality")
            modality = _MODALITIES.get(name) if isinstance(name, str) else None
            if modality is None:
                continue
            detail = Counts(entry)
            found[modality] = found.get(modality, 0) + (detail.get("tokenCount") or 0)
            for flag in detail.flags:
                counts.flag(f"{flag}@{field}")
    return found


def _tier(raw: Json) -> str:
    """The Gemini API has a word of its own for it; Vertex tells the kind of traffic instead."""
    tier = raw.get("serviceTier")
    if isinstance(tier, str) and not tier.lower().endswith("unspecified"):
        return tier.lower().removeprefix("service_tier_")
    return tiers.of_traffic(raw.get("trafficType"))


def _details(usage: Usage, prefix: str) -> list[Json]:
    names = {"image": "IMAGE", "video": "VIDEO", "audio": "AUDIO"}
    return [
        {"modality": word, "tokenCount": _whole(usage.totals[f"{prefix}_{modality}"])}
        for modality, word in names.items()
        if usage.totals.get(f"{prefix}_{modality}")
    ]


def _put(totals: dict[str, int | Decimal], meter: str, number: int) -> None:
    if number:
        totals[meter] = number


def _whole(value: int | Decimal | None) -> int:
    return int(value or 0)

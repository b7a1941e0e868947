"""The usage object of the OpenAI family -> totals by meter. What a vendor does differently is told from the object.

prompt_tokens contains cached and written tokens and every modality; completion_tokens contains reasoning. The known
exceptions are each a few lines below, recognised by the field that only such an answer carries.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from providers.counts import Counts, usd
from providers.unified import Usage
from providers.wire import tiers
from providers.wire.openai_chat.dialect import Dialect

_TICKS_PER_USD = Decimal(10**10)

# meter -> where its count stands; the first usable one counts. All of them are parts of `input` or `output`.
_INPUT_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_audio": (("prompt_tokens_details", "audio_tokens"),),
    "input_image": (("prompt_tokens_details", "image_tokens"),),
    "input_video": (("prompt_tokens_details", "video_tokens"),),
}
_OUTPUT_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "reasoning": (("completion_tokens_details", "reasoning_tokens"), ("reasoning_tokens",)),
    "output_audio": (("completion_tokens_details", "audio_tokens"),),
    "output_image": (("completion_tokens_details", "image_tokens"),),
}
_CACHED = (
    ("prompt_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("cached_tokens",),
    ("cache_read_input_tokens",),
    ("cached_prompt_text_tokens",),
)
# The second: hosts of Anthropic's models, as Databricks; the third: Alibaba's model studio.
_WRITTEN = (
    ("prompt_tokens_details", "cache_write_tokens"),
    ("cache_creation_input_tokens",),
    ("prompt_tokens_details", "cache_creation_input_tokens"),
)
_WEB_SEARCHES = (
    ("server_tool_use_details", "web_search_requests"),
    ("server_tool_use", "web_search_requests"),
    ("num_search_queries",),
)
# Fields that only Perplexity's answers have: it counts reasoning and citations beside the completion, not in it.
_PERPLEXITY_MARKS = ("citation_tokens", "num_search_queries", "search_context_size")


def read(*, raw: Any, exact: Any, dialect: Dialect, service_tier: Any = None) -> Usage:
    """Usage from one usage object, decoded twice: `raw` to keep, `exact` with Decimals to bill.

    Source "reported" when input and output are known, "partial" when one is absent, and "none" with the reason among
    the flags when a count that matters cannot be used.
    """
    counts = Counts(exact)
    totals, source = _totals(counts, dialect)
    if totals:
        _add_input_parts(totals, counts)
        _add_output_parts(totals, counts)
        _add_flat(totals, counts)
    tier = service_tier or counts.raw.get("service_tier") or _vertex_tier(counts.raw.get("extra_properties"))
    context = counts.raw.get("search_context_size")
    return Usage(
        totals=totals,
        source=source,
        raw=raw if isinstance(raw, dict) else None,
        flags=counts.flags,
        service_tier=tier if isinstance(tier, str) else "",
        # Perplexity's fee for a request depends on how much it searched.
        variant=context if isinstance(context, str) else "",
        stated_cost_usd=stated_cost(counts.raw),
    )


def _totals(counts: Counts, dialect: Dialect) -> tuple[dict[str, int | Decimal], Any]:
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if counts.flags:
        return {}, "none"
    total = counts.get("total_tokens")
    prompt, completion = _fill(prompt, completion, total, counts)
    if prompt is None and completion is None:
        return {}, "none"
    if prompt is None or completion is None:
        return ({"input": prompt} if prompt is not None else {"output": completion or 0}), "partial"
    if any(mark in counts.raw for mark in _PERPLEXITY_MARKS):
        completion += (counts.get("reasoning_tokens") or 0) + (counts.get("citation_tokens") or 0)
    beyond = (total or 0) - prompt - completion
    if beyond > 0 and counts.raw.get("prompt_audio_seconds") is not None:
        return {"input": prompt + beyond, "input_audio": beyond, "output": completion}, "reported"
    if beyond > 0 and beyond == _beside(counts):
        return {"input": prompt + beyond, "output": completion}, "reported"
    if beyond > 0 and dialect.unexplained_total == "output":
        completion += beyond
    return {"input": prompt, "output": completion}, "reported"


def _beside(counts: Counts) -> int | None:
    """Tokens of the cache that a host of Anthropic's models left out of the prompt, as those models do themselves.

    None where thoughts explain the total as well.
    """
    held = (counts.first(*_CACHED) or 0) + (counts.first(*_WRITTEN) or 0)
    return None if held == counts.first(*_OUTPUT_PARTS["reasoning"]) else held


def _fill(
    prompt: int | None, completion: int | None, total: int | None, counts: Counts
) -> tuple[int | None, int | None]:
    """The one absent count follows from the total, where the provider gives it."""
    if total is None or (prompt is None) == (completion is None):
        return prompt, completion
    if completion is None and prompt is not None and total >= prompt:
        counts.flag("derived:completion_tokens")
        return prompt, total - prompt
    if prompt is None and completion is not None and total >= completion:
        counts.flag("derived:prompt_tokens")
        return total - completion, completion
    return prompt, completion


def _add_input_parts(totals: dict[str, int | Decimal], counts: Counts) -> None:
    if "input" not in totals:
        return
    whole = int(totals["input"])
    read_tokens = counts.within(counts.first(*_CACHED) or 0, whole, "cached_tokens")
    written = counts.first(*_WRITTEN) or 0
    written = counts.within(written, whole - read_tokens, "cache_write_tokens")
    _put(totals, "cache_read", read_tokens)
    _put(totals, "cache_write_5m", written)
    _add_modalities(totals, counts, _INPUT_PARTS, whole)


def _add_output_parts(totals: dict[str, int | Decimal], counts: Counts) -> None:
    if "output" in totals:
        _add_modalities(totals, counts, _OUTPUT_PARTS, int(totals["output"]))


def _add_modalities(
    totals: dict[str, int | Decimal], counts: Counts, parts: dict[str, tuple[tuple[str, ...], ...]], whole: int
) -> None:
    """Disjoint parts of one whole: together they never exceed it."""
    left = whole - sum(int(totals.get(meter, 0)) for meter in parts)
    for meter, paths in parts.items():
        if meter not in totals:
            part = counts.within(counts.first(*paths) or 0, left, meter)
            _put(totals, meter, part)
            left -= part


def _add_flat(totals: dict[str, int | Decimal], counts: Counts) -> None:
    _put(totals, "web_searches", counts.first(*_WEB_SEARCHES) or 0)
    _put(totals, "citation", counts.get("citation_tokens") or 0)
    if counts.get("num_sources_used"):
        counts.flag("unmetered:num_sources_used")


def _put(totals: dict[str, int | Decimal], meter: str, number: int) -> None:
    if number:
        totals[meter] = number


def _vertex_tier(extra: Any) -> str:
    """The kind of traffic, which Vertex's endpoint of this wire tells among what only Google knows."""
    google = extra.get("google") if isinstance(extra, dict) else None
    return tiers.of_traffic(google.get("traffic_type")) if isinstance(google, dict) else ""


def stated_cost(usage: dict[str, Any]) -> Decimal | None:
    """The bill as the provider states it, in USD.

    OpenRouter: `cost`, or what the upstream charges where the key is the customer's own (`is_byok`). Perplexity:
    `cost.total_cost`. xAI: `cost_in_usd_ticks`, where zero is what other hosts of its models write for "not stated".
    """
    cost = usage.get("cost")
    if isinstance(cost, dict):
        return usd(cost.get("total_cost"))
    details = usage.get("cost_details")
    if usage.get("is_byok") is True and isinstance(details, dict):
        upstream = usd(details.get("upstream_inference_cost"))
        if upstream is not None:
            return upstream
    ticks = usage.get("cost_in_usd_ticks")
    if cost is None and isinstance(ticks, int) and not isinstance(ticks, bool) and ticks > 0:
        return usd(Decimal(ticks) / _TICKS_PER_USD)
    return usd(cost)

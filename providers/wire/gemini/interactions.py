"""What Google's interactions count: the same numbers as `usageMetadata` under other names, in lower case.

Only read, never asked for: the gateway has no surface of them. https://ai.google.dev/api/interactions-api
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from providers.counts import decode_object
from providers.sse import ServerEvent
from providers.unified import NO_USAGE, Json, Usage
from providers.wire.gemini import usage as usages
from providers.wire.gemini.names import objects, string

# Their name of a count -> Google's other one. What tools read is counted beside the input, thoughts beside the output.
_COUNTS = {
    "total_input_tokens": "promptTokenCount",
    "total_cached_tokens": "cachedContentTokenCount",
    "total_output_tokens": "candidatesTokenCount",
    "total_thought_tokens": "thoughtsTokenCount",
    "total_tool_use_tokens": "toolUsePromptTokenCount",
    "total_tokens": "totalTokenCount",
}
_DETAILS = {
    "input_tokens_by_modality": "promptTokensDetails",
    "cached_tokens_by_modality": "cacheTokensDetails",
    "output_tokens_by_modality": "candidatesTokensDetails",
    "tool_use_tokens_by_modality": "toolUsePromptTokensDetails",
}


def read_usage(body: bytes) -> tuple[Usage, str]:
    """(usage, served model) of a whole interaction. Never raises: what is no interaction has no usage."""
    return _of(decode_object(body))


def of_stream(events: Iterable[ServerEvent]) -> tuple[Usage, str]:
    """(usage, served model) of a stream: that of its last event, `interaction.completed`, which holds the interaction.

    Events before it tell a running total; without the last one that is "partial".
    """
    usage, model = NO_USAGE, ""
    for event in events:
        value = decode_object(event.data)
        whole, metadata = value.get("interaction"), value.get("metadata")
        if isinstance(whole, dict) and whole.get("usage") is not None:
            usage, model = _of(whole)
        elif isinstance(metadata, dict) and metadata.get("usage") is not None:
            usage = usages.partial(_read(metadata["usage"], tier=None))
        if isinstance(whole, dict):
            model = string(whole.get("model")) or model
    return usage, model


def _of(value: Json) -> tuple[Usage, str]:
    return _read(value.get("usage"), tier=value.get("service_tier")), string(value.get("model"))


def _read(raw: Any, *, tier: Any) -> Usage:
    if not isinstance(raw, dict):
        return NO_USAGE
    said: Json = {theirs: raw[ours] for ours, theirs in _COUNTS.items() if raw.get(ours) is not None}
    for ours, theirs in _DETAILS.items():
        said[theirs] = [
            {"modality": string(entry.get("modality")).upper(), "tokenCount": entry.get("tokens")}
            for entry in objects(raw.get(ours))
        ]
    if isinstance(tier, str):
        said["serviceTier"] = tier
    return msgspec.structs.replace(usages.read(said), raw=raw)

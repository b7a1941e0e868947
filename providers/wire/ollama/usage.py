"""Ollama's counts, which stand beside the answer: in a whole one, and in the last line of a stream."""

from __future__ import annotations

from typing import Any

from providers.counts import Counts
from providers.unified import NO_USAGE, Json, Usage, UsageSource

_COUNTS = {"input": "prompt_eval_count", "output": "eval_count"}


def read(value: Json) -> Usage:
    """Usage of an answer of /api/chat or /api/generate.

    A server leaves out `prompt_eval_count` where it had the whole prompt in its cache: how long that was is unknown
    then, not nothing. source: "reported" with both counts, "partial" with one of them, "none" with neither.
    """
    raw = {name: value[name] for name in _COUNTS.values() if value.get(name) is not None}
    if not raw:
        return NO_USAGE
    counts = Counts(raw)
    known = {meter: counts.get(name) for meter, name in _COUNTS.items()}
    totals: dict[str, Any] = {meter: number for meter, number in known.items() if number is not None}
    source: UsageSource = ("none", "partial", "reported")[len(totals)]
    return Usage(totals=totals, source=source, raw=raw, flags=counts.flags)


def read_embedding(value: Json) -> Usage:
    """Usage of an answer of /api/embed: everything was read, nothing written."""
    count = value.get("prompt_eval_count")
    if count is None:
        return NO_USAGE
    raw = {"prompt_eval_count": count}
    counts = Counts(raw)
    tokens = counts.get("prompt_eval_count")
    if tokens is None:
        return Usage(raw=raw, flags=counts.flags)
    return Usage(totals={"input": tokens}, source="reported", raw=raw, flags=counts.flags)


def write(usage: Usage) -> Json:
    return {name: int(usage.totals[meter]) for meter, name in _COUNTS.items() if meter in usage.totals}

"""What version 1 of Cohere's API counts: POST /v1/chat and /v1/generate. Only read: the gateway asks version 2.

An answer has `meta`; a stream of lines has it in the answer that its last one, `stream-end`, holds.
https://docs.cohere.com/v1/reference/chat
"""

from __future__ import annotations

from collections.abc import Iterable

from providers.counts import decode, decode_exact
from providers.sse import ServerEvent
from providers.unified import NO_USAGE, Usage
from providers.wire.cohere import usage as usages


def read_usage(body: bytes) -> Usage:
    """Usage of a whole answer. Never raises: what is no answer has no usage."""
    try:
        value = decode(body)
    except ValueError:
        return NO_USAGE
    return usages.of_answer(value, body) if isinstance(value, dict) else NO_USAGE


def of_stream(lines: Iterable[ServerEvent]) -> Usage:
    """Usage of a stream (see `providers.ndjson`); none until it has ended."""
    for line in lines:
        if b'"stream-end"' not in line.data:
            continue
        try:
            value, exact = decode(line.data), decode_exact(line.data)
        except ValueError:
            continue
        answer = value.get("response") if isinstance(value, dict) else None
        if isinstance(answer, dict) and isinstance(answer.get("meta"), dict):
            return usages.read(raw=answer["meta"], exact=exact["response"]["meta"])
    return NO_USAGE

"""What InvokeModel counts. Each model answers in its maker's own shape, and some tell their counts in headers alone.

    | maker             | where the counts stand in the body                           |
    |-------------------|--------------------------------------------------------------|
    | Anthropic         | usage.input_tokens, cache_..., output_tokens                 |
    | Amazon Nova       | usage.inputTokens, cacheReadInputTokenCount, outputTokens    |
    | Amazon Titan      | inputTextTokenCount, results[].tokenCount                    |
    | Meta Llama        | prompt_token_count, generation_token_count                   |
    | Mistral, AI21,    | usage.prompt_tokens, completion_tokens                       |
    | OpenAI, DeepSeek  |                                                              |
    | Cohere            | meta.billed_units, or headers alone                          |
    | older models      | headers alone                                                |

The last chunk of every stream has AWS's own counts beside the model's (`amazon-bedrock-invocationMetrics`).
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from providers.counts import Counts, decode_exact, decode_object
from providers.sse import ServerEvent
from providers.unified import NO_USAGE, Json, Usage
from providers.wire.anthropic_messages import usage as anthropic
from providers.wire.bedrock_converse import usage as converse
from providers.wire.cohere import usage as cohere
from providers.wire.openai_chat import usage as chat
from providers.wire.openai_chat.dialect import OPENAI

METRICS = "amazon-bedrock-invocationMetrics"
METRICS_MARK = METRICS.encode()
# Our name of each count in headers and metrics, all apart from each other, under Converse's names.
_HEADERS = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}
_METRICS = {
    "inputTokens": "inputTokenCount",
    "outputTokens": "outputTokenCount",
    "cacheReadInputTokens": "cacheReadInputTokenCount",
    "cacheWriteInputTokens": "cacheWriteInputTokenCount",
}


def of_answer(body: bytes, headers: Mapping[str, str] | None = None) -> Usage:
    """Usage of a whole answer of any model: as its body tells, else as the `headers` do. Never raises."""
    value = decode_object(body)
    told = _of_body(value, body) if value else NO_USAGE
    if told.source == "reported":
        return told
    headed = of_headers(headers or {})
    return headed if headed.source == "reported" else told


def of_stream(events: Iterable[ServerEvent]) -> Usage:
    """Usage of a whole stream (see `frames.Decoder`) of any model: as Anthropic's tell it, else as AWS counts it."""
    told: Json = {}
    metrics: Json | None = None
    for event in events:
        told = anthropic.merge(told, _told_by(event.data))
        metrics = metrics_of(event.data) or metrics
    read = anthropic.read(told or None)
    return of_metrics(metrics) if metrics is not None and read.source != "reported" else read


def of_headers(headers: Mapping[str, str]) -> Usage:
    """Usage of an answer's headers, whatever the case of their names; source "none" where they have no counts.

    Embeddings have a count of what was read alone: nothing is written.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    counts = {name: _number(lowered[header]) for name, header in _HEADERS.items() if header in lowered}
    read = converse.read({"usage": counts}) if counts else NO_USAGE
    reads_only = "outputTokens" not in counts and "input" in read.totals
    return msgspec.structs.replace(read, source="reported") if reads_only else read


def metrics_of(data: bytes) -> Json | None:
    """AWS's counts in a chunk; None where there are none."""
    metrics = decode_object(data).get(METRICS) if METRICS_MARK in data else None
    return metrics if isinstance(metrics, dict) else None


def _told_by(data: bytes) -> Json:
    """The `usage` in an event of Anthropic's, at its start or at its end."""
    value = decode_object(data) if b'"usage"' in data else {}
    holder = value.get("message") if value.get("type") == "message_start" else value
    said = holder.get("usage") if isinstance(holder, dict) and "type" in value else None
    return said if isinstance(said, dict) else {}


def of_metrics(metrics: Json) -> Usage:
    read = converse.read({"usage": {name: metrics.get(key) for name, key in _METRICS.items()}})
    return msgspec.structs.replace(read, raw=metrics)


def _number(text: str) -> int | str:
    """A header's count; what is none stays as it is, and is flagged where it is read."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text


# --- bodies -------------------------------------------------------------------------------------------------


def _of_body(value: Json, body: bytes) -> Usage:
    said = value.get("usage")
    if isinstance(said, dict):
        return _of_object(value, said, body)
    if "prompt_token_count" in value or "generation_token_count" in value:
        return _of_counts(value, read=("prompt_token_count",), written=("generation_token_count",))
    if "inputTextTokenCount" in value:
        return _of_titan(value)
    if isinstance(value.get("meta"), dict):
        return cohere.of_answer(value, body)
    return NO_USAGE


def _of_object(value: Json, said: Json, body: bytes) -> Usage:
    """A `usage` object, whose maker is told by the names of its counts."""
    if "inputTokens" in said or "outputTokens" in said:
        return converse.read(value)
    if "prompt_tokens" in said or "completion_tokens" in said:
        return chat.read(raw=said, exact=decode_exact(body).get("usage"), dialect=OPENAI)
    model = value.get("model")
    return anthropic.read(said, model=model if isinstance(model, str) else "")


def _of_titan(value: Json) -> Usage:
    """Texts have results, of which there may be several; embeddings have none, and nothing is written."""
    results = value.get("results")
    if not isinstance(results, list):
        return _of_counts(value, read=("inputTextTokenCount",), written=())
    made = [Counts(result).get("tokenCount") for result in results]
    known = {**value, "tokenCount": sum(number or 0 for number in made) if None not in made else None}
    return _of_counts(known, read=("inputTextTokenCount",), written=("tokenCount",))


def _of_counts(value: Json, *, read: tuple[str, ...], written: tuple[str, ...]) -> Usage:
    """Two counts that stand beside the answer. Without a name of what is `written`, reading is all there is."""
    raw = {name: value[name] for name in (*read, *written) if value.get(name) is not None}
    counts = Counts(raw)
    known = {"input": counts.get(*read), **({"output": counts.get(*written)} if written else {})}
    totals: dict[str, Any] = {meter: number for meter, number in known.items() if number is not None}
    return Usage(
        totals=totals,
        source="reported" if len(totals) == len(known) else "partial" if totals else "none",
        raw=raw,
        flags=counts.flags,
    )

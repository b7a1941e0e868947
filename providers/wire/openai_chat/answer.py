"""A whole chat completion <-> the unified Answer."""

from __future__ import annotations

import time
import uuid
from typing import Any

from providers.counts import decode, decode_exact
from providers.errors import InvalidRequest, MalformedAnswer
from providers.unified import (
    NO_USAGE,
    Answer,
    Choice,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    StopReason,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.jsontext import dumps
from providers.wire.openai_chat import usage as usages
from providers.wire.openai_chat.dialect import Dialect
from providers.wire.openai_chat.errors import error_from
from providers.wire.openai_chat.parts import NAME, decode_content, decode_part, encode_details, epoch_s, string
from providers.wire.openai_chat.request_in import decode_assistant

_READ = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier"})
_READ_OF_CHOICE = frozenset({"index", "message", "finish_reason", "logprobs"})
_READ_OF_MESSAGE = frozenset({
    "role", "content", "refusal", "tool_calls", "reasoning_content", "reasoning", "reasoning_details", "annotations",
    "images", "audio",
})  # fmt: skip
_OF_MESSAGE = "message."
_STOP_REASONS: dict[str, StopReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "refusal",
}
_FINISH_REASONS: dict[StopReason, str] = {
    "length": "length",
    "context_window": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}
# The tiers that OpenAI's own clients know; they check the word.
TIERS = frozenset({"auto", "default", "flex", "scale", "priority"})


def answer_object(body: bytes) -> Json:
    """The JSON object of a 200. Raises MalformedAnswer, or the provider's error where the 200 holds one."""
    try:
        value = decode(body)
    except ValueError as error:
        raise MalformedAnswer("The provider's answer is not JSON.") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    if value.get("error") and not value.get("choices"):
        raise error_from(value, status=None)
    return value


def read_usage(body: bytes, *, dialect: Dialect) -> tuple[Usage, str]:
    """Usage and served model of a whole answer."""
    value = answer_object(body)
    return usage_of(value, body, dialect=dialect), string(value.get("model"))


def usage_of(value: Json, body: bytes, *, dialect: Dialect) -> Usage:
    """The usage in `value`, an answer or a chunk whose JSON text is `body`."""
    raw = find_usage(value)
    if raw is None:
        tier = value.get("service_tier")
        return Usage(service_tier=tier) if isinstance(tier, str) and tier else NO_USAGE
    exact = find_usage(decode_exact(body))
    return usages.read(raw=raw, exact=exact, dialect=dialect, service_tier=value.get("service_tier"))


def find_usage(value: Json) -> Any:
    """`usage`, or `x_groq.usage` where an older stream has it; None for none."""
    usage = value.get("usage")
    if usage is None:
        nested = value.get("x_groq")
        usage = nested.get("usage") if isinstance(nested, dict) else None
    return usage


def stop_reason(word: Any) -> StopReason:
    return _STOP_REASONS.get(string(word).lower(), "unknown")


def finish_reason(reason: StopReason, *, called_tools: bool) -> str:
    """The word for a client: its types know five, so a pause or an unknown end is a "stop"."""
    return _FINISH_REASONS.get(reason, "tool_calls" if called_tools and reason == "unknown" else "stop")


# --- decode -----------------------------------------------------------------------------------------------


def decode_answer(body: bytes, *, dialect: Dialect) -> Answer:
    """Raises MalformedAnswer, or the provider's own error where a 200 holds one."""
    value = answer_object(body)
    choices = value.get("choices")
    if not isinstance(choices, list):
        raise MalformedAnswer("The provider's answer has no 'choices'.")
    return Answer(
        id=string(value.get("id")),
        model=string(value.get("model")),
        choices=tuple(_choice(choice, at, value) for at, choice in enumerate(choices) if isinstance(choice, dict)),
        usage=usage_of(value, body, dialect=dialect),
        created=epoch_s(value.get("created")),
        extra={key: item for key, item in value.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def _choice(value: Json, at: int, answer: Json) -> Choice:
    message = value.get("message")
    message = message if isinstance(message, dict) else {}
    try:
        parts = decode_assistant(message, decode_content(message.get("content")), f"$.choices[{at}].message")
    except InvalidRequest as error:
        raise MalformedAnswer(f"The provider's answer cannot be read: {error.message}") from error
    parts = with_citations(parts, citations_of(message) or search_results(answer))
    index = value.get("index")
    return Choice(
        parts=(*parts, *media_of(message)),
        stop_reason=stop_reason(value.get("finish_reason")),
        index=index if isinstance(index, int) else at,
        logprobs=logprobs_of(value),
        extra=_extra_of(value, message),
    )


def _extra_of(choice: Json, message: Json) -> Json:
    """What nobody knows of a choice, and of its message by "message.<name>"."""
    extra = {name: item for name, item in choice.items() if name not in _READ_OF_CHOICE and item is not None}
    for name, item in message.items():
        if name not in _READ_OF_MESSAGE and item is not None:
            extra[f"{_OF_MESSAGE}{name}"] = item
    return extra


def citations_of(message: Json) -> list[Json]:
    annotations = message.get("annotations")
    return [item for item in annotations if isinstance(item, dict)] if isinstance(annotations, list) else []


def search_results(answer: Json) -> list[Json]:
    """Perplexity lists its sources beside the choices."""
    results = answer.get("search_results")
    return [
        {"type": "url_citation", "url_citation": {"url": item["url"], "title": string(item.get("title"))}}
        for item in (results if isinstance(results, list) else ())
        if isinstance(item, dict) and string(item.get("url"))
    ]


def with_citations(parts: list[Part], citations: list[Json]) -> list[Part]:
    """Citations go to the last text, which on this wire is the only one."""
    for at in reversed(range(len(parts))):
        part = parts[at]
        if citations and isinstance(part, TextPart):
            cited = TextPart(text=part.text, cache_control=part.cache_control, citations=tuple(citations))
            return [*parts[:at], cited, *parts[at + 1 :]]
    return parts


def media_of(message: Json) -> list[Part]:
    """Images a model drew, and the audio it spoke (kept whole: it has an id and a transcript of its own)."""
    parts: list[Part] = []
    images = message.get("images")
    for image in images if isinstance(images, list) else ():
        if isinstance(image, dict):
            parts += decode_part({key: item for key, item in image.items() if key != "index"})
    audio = message.get("audio")
    if isinstance(audio, dict) and (audio.get("data") or audio.get("transcript")):
        parts.append(OpaquePart(wire=NAME, value={"type": "audio", "audio": audio}))
    return parts


def logprobs_of(choice: Json) -> Json | None:
    logprobs = choice.get("logprobs")
    return logprobs if isinstance(logprobs, dict) and any(logprobs.values()) else None


# --- encode -----------------------------------------------------------------------------------------------


def encode_answer(answer: Answer) -> bytes:
    """A chat completion that OpenAI's own client types accept."""
    body: Json = dict(answer.extra) if answer.wire == NAME else {}
    body.update(
        id=answer.id or new_id(),
        object="chat.completion",
        created=answer.created or int(time.time()),
        model=answer.model,
        choices=[_encode_choice(choice, own=answer.wire == NAME) for choice in answer.choices],
    )
    if answer.usage.totals:
        body["usage"] = encode_usage(answer.usage)
    if answer.usage.service_tier in TIERS:
        body["service_tier"] = answer.usage.service_tier
    return dumps(body)


def new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


def _encode_choice(choice: Choice, *, own: bool) -> Json:
    called = any(isinstance(part, ToolCallPart) for part in choice.parts)
    extra = choice.extra if own else {}
    beside = {name: item for name, item in extra.items() if not name.startswith(_OF_MESSAGE)}
    within = {name.removeprefix(_OF_MESSAGE): item for name, item in extra.items() if name not in beside}
    return {
        **beside,
        "index": choice.index,
        "message": within | encode_message(choice.parts),
        "logprobs": choice.logprobs,
        "finish_reason": finish_reason(choice.stop_reason, called_tools=called),
    }


def encode_message(parts: tuple[Part, ...]) -> Json:
    """One message from its parts; texts are joined, since the wire has one `content`."""
    texts = [part for part in parts if isinstance(part, TextPart)]
    refusals = [part.text for part in parts if isinstance(part, RefusalPart)]
    message: Json = {
        "role": "assistant",
        "content": "".join(part.text for part in texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    calls = [encode_call(part) for part in parts if isinstance(part, ToolCallPart) or _is(part, "custom")]
    if calls:
        message["tool_calls"] = calls
    thoughts = [part for part in parts if isinstance(part, ReasoningPart)]
    if any(part.text for part in thoughts):
        message["reasoning_content"] = "".join(part.text for part in thoughts)
    if any(part.signature or part.redacted for part in thoughts):
        message["reasoning_details"] = encode_details(thoughts)
    annotations = encode_citations(texts)
    if annotations:
        message["annotations"] = annotations
    images = [encode_image(part) for part in parts if isinstance(part, ImagePart)]
    if images:
        message["images"] = images
    for part in parts:
        if isinstance(part, OpaquePart) and _is(part, "audio"):
            message["audio"] = part.value["audio"]
    return message


def _is(part: Part, kind: str) -> bool:
    return isinstance(part, OpaquePart) and part.wire == NAME and part.value.get("type") == kind


def encode_call(part: Part) -> Json:
    if isinstance(part, OpaquePart):
        return part.value
    assert isinstance(part, ToolCallPart)
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}}


def encode_image(part: ImagePart) -> Json:
    url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
    return {"type": "image_url", "image_url": {"url": url}}


def encode_citations(texts: list[TextPart]) -> list[Json]:
    """Citations of every text, each placed within the joined content."""
    annotations: list[Json] = []
    offset = 0
    for part in texts:
        for citation in part.citations:
            annotation = encode_citation(citation, start=offset, end=offset + len(part.text))
            if annotation:
                annotations.append(annotation)
        offset += len(part.text)
    return annotations


def encode_citation(citation: Json, *, start: int, end: int) -> Json | None:
    """A `url_citation`; one that cites no URL has no words on this wire, and the client's types no place for it."""
    inner = citation.get("url_citation")
    if isinstance(inner, dict):
        citation = inner
    url = string(citation.get("url")) or string(citation.get("uri"))
    if not url:
        return None
    first, last = citation.get("start_index"), citation.get("end_index")
    kept = {key: item for key, item in citation.items() if key == "content"}
    located = {
        **kept,
        "url": url,
        "title": string(citation.get("title")),
        "start_index": first if isinstance(first, int) else start,
        "end_index": last if isinstance(last, int) else end,
    }
    return {"type": "url_citation", "url_citation": located}


def encode_usage(usage: Usage) -> Json:
    totals = usage.totals
    prompt, completion = int(totals.get("input", 0)), int(totals.get("output", 0))
    written = sum(int(number) for meter, number in totals.items() if meter.startswith("cache_write"))
    value: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": int(totals.get("cache_read", 0)),
            "audio_tokens": int(totals.get("input_audio", 0)),
        },
        "completion_tokens_details": {
            "reasoning_tokens": int(totals.get("reasoning", 0)),
            "audio_tokens": int(totals.get("output_audio", 0)),
        },
    }
    if written:
        value["prompt_tokens_details"]["cache_write_tokens"] = written
    return value

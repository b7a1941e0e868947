"""A whole answer of Cohere's chat <-> the unified Answer."""

from __future__ import annotations

import uuid
from typing import Any

from providers.counts import decode
from providers.errors import InvalidRequest, MalformedAnswer
from providers.unified import (
    Answer,
    Choice,
    ImagePart,
    Json,
    OpaquePart,
    ReasoningPart,
    RefusalPart,
    StopReason,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.cohere import usage as usages
from providers.wire.cohere.errors import failed_generation
from providers.wire.cohere.parts import NAME, decode_content, encode_citation, encode_tool_call
from providers.wire.cohere.request_in import assistant_parts
from providers.wire.jsontext import dumps
from providers.wire.openai_chat.errors import error_from
from providers.wire.openai_chat.parts import string

_READ = frozenset({"id", "finish_reason", "message", "usage", "logprobs", "model"})
_FAILED = frozenset({"ERROR", "TIMEOUT"})
_STOP_REASONS: dict[str, StopReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop_sequence",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_LIMIT": "context_window",
    "ERROR_TOXIC": "content_filter",
}
_FINISH_REASONS: dict[StopReason, str] = {
    "stop_sequence": "STOP_SEQUENCE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "context_window": "ERROR_LIMIT",
    "content_filter": "ERROR_TOXIC",
    "refusal": "ERROR_TOXIC",
}


def stop_reason(word: Any) -> StopReason:
    return _STOP_REASONS.get(string(word).upper(), "unknown")


def finish_reason(reason: StopReason) -> str:
    return _FINISH_REASONS.get(reason, "COMPLETE")


def failed(word: Any) -> bool:
    """Did the generation break off, by its finish reason?"""
    return string(word).upper() in _FAILED


def answer_object(body: bytes) -> Json:
    """The JSON object of a 200. Raises MalformedAnswer, or the provider's error where the 200 holds one."""
    try:
        value = decode(body)
    except ValueError as error:
        raise MalformedAnswer("The provider's answer is not JSON.") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    if "message" in value and not isinstance(value["message"], dict):
        raise error_from(value, status=None)
    return value


def read_usage(body: bytes) -> tuple[Usage, str]:
    """Usage of a whole answer; Cohere does not say which model it served."""
    value = answer_object(body)
    return usages.of_answer(value, body), string(value.get("model"))


def decode_answer(body: bytes) -> Answer:
    """Raises MalformedAnswer, or UpstreamError where the generation failed and said nothing."""
    value = answer_object(body)
    message = value.get("message")
    if not isinstance(message, dict):
        raise MalformedAnswer("The provider's answer has no 'message'.")
    try:
        parts = assistant_parts(message, decode_content(message.get("content")), "$.message")
    except InvalidRequest as error:
        raise MalformedAnswer(f"The provider's answer cannot be read: {error.message}") from error
    if not parts and failed(value.get("finish_reason")):
        raise failed_generation(value)
    reason = stop_reason(value.get("finish_reason"))
    choice = Choice(parts=parts, stop_reason=reason, logprobs=decode_logprobs(value.get("logprobs")))
    return Answer(
        id=string(value.get("id")),
        model=string(value.get("model")),
        choices=(choice,),
        usage=usages.of_answer(value, body),
        extra={key: item for key, item in value.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def decode_logprobs(items: Any) -> Json | None:
    """In the shape that all wires share, OpenAI's; of a piece of several tokens only the sum can be told."""
    content: list[Json] = []
    for item in items if isinstance(items, list) else ():
        numbers = item.get("logprobs") if isinstance(item, dict) else None
        numbers = numbers if isinstance(numbers, list) else ()
        known = [number for number in numbers if isinstance(number, int | float)]
        if known:
            token = {"token": string(item.get("text")), "logprob": float(sum(known))}
            content.append({**token, "bytes": None, "top_logprobs": []})
    return {"content": content} if content else None


def encode_logprobs(logprobs: Json | None) -> list[Json]:
    content = logprobs.get("content") if logprobs else None
    return [
        {"text": string(item.get("token")), "token_ids": [], "logprobs": [item.get("logprob", 0.0)]}
        for item in (content if isinstance(content, list) else ())
        if isinstance(item, dict)
    ]


# --- encode -----------------------------------------------------------------------------------------------


def encode_answer(answer: Answer) -> bytes:
    """An answer that Cohere's own client types accept: the first choice, since this wire has no other."""
    choice = answer.choices[0] if answer.choices else Choice(parts=())
    body: Json = dict(answer.extra) if answer.wire == NAME else {}
    body |= {
        "id": answer.id or str(uuid.uuid4()),
        "finish_reason": finish_reason(choice.stop_reason),
        "message": _encode_message(choice),
    }
    if answer.model:
        body["model"] = answer.model
    if answer.usage.totals:
        body["usage"] = usages.encode(answer.usage)
    if choice.logprobs:
        body["logprobs"] = encode_logprobs(choice.logprobs)
    return dumps(body)


def _encode_message(choice: Choice) -> Json:
    calls = [encode_tool_call(part) for part in choice.parts if isinstance(part, ToolCallPart)]
    content: list[Json] = []
    citations: list[Json] = []
    plan = ""
    for part in choice.parts:
        match part:
            case TextPart() | RefusalPart() if calls:
                plan += part.text
            case TextPart() | RefusalPart():
                content.append({"type": "text", "text": part.text})
            case ReasoningPart() if part.text:
                content.append({"type": "thinking", "thinking": part.text})
            case ImagePart() if part.url or part.data:
                url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
                content.append({"type": "image_url", "image_url": {"url": url}})
            case OpaquePart() if part.wire == NAME:
                content.append(part.value)
        if isinstance(part, TextPart):
            kept = (encode_citation(citation) for citation in part.citations)
            citations += [citation for citation in kept if citation is not None]
    message: Json = {"role": "assistant"}
    if content or not calls:
        message["content"] = content
    if plan:
        message["tool_plan"] = plan
    if calls:
        message["tool_calls"] = calls
    if citations:
        message["citations"] = citations
    return message

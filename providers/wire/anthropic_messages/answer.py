"""Whole answers: Anthropic's `message` object <-> the unified answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from providers.errors import MalformedAnswer
from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    FilePart,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from providers.wire.anthropic_messages import blocks, usage
from providers.wire.anthropic_messages.blocks import NAME
from providers.wire.anthropic_messages.errors import error_of
from providers.wire.anthropic_messages.jsontext import dumps, loads

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "stop",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_window",
}
_STOP_WORDS = {reason: word for word, reason in _STOP_REASONS.items()} | {"content_filter": "refusal"}
_KNOWN = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})


def read_usage(body: bytes) -> tuple[Usage, str]:
    """(usage, served model) of a whole answer. MalformedAnswer when the body is no JSON object."""
    raw = _object(body)
    model = served(raw)
    return usage.read(raw.get("usage"), model=model), model


def decode_answer(body: bytes) -> Answer:
    """The unified answer. Raises MalformedAnswer, or the provider's own error where the body is one."""
    raw = _object(body)
    if raw.get("type") == "error":
        raise error_of(raw)
    content = raw.get("content")
    if not isinstance(content, list):
        raise MalformedAnswer("The provider's answer has no list of content blocks.")
    try:
        parts = blocks.read_parts(content)
    except msgspec.ValidationError as error:
        raise MalformedAnswer(f"The provider's answer has a malformed content block: {error}.") from error
    model = served(raw)
    reason, extra = read_stop(raw.get("stop_reason"))
    extra |= {key: value for key, value in raw.items() if key not in _KNOWN and value is not None}
    return Answer(
        id=str(raw.get("id") or ""),
        model=model,
        choices=(Choice(parts, stop_reason=reason, stop_sequence=str(raw.get("stop_sequence") or "")),),
        usage=usage.read(raw.get("usage"), model=model),
        extra=extra,
        wire=NAME,
    )


def encode_answer(answer: Answer) -> bytes:
    """A `message` body. The wire holds one choice: a client of it cannot ask for more."""
    choice = answer.choices[0] if answer.choices else Choice(())
    own = answer.wire == NAME
    extra = dict(answer.extra) if own else {}
    word = extra.pop("stop_reason", None) or stop_word(choice.stop_reason, choice.parts)
    message = head(id_=answer.id, model=answer.model, usage_={})
    message["content"] = [block for part in choice.parts if (block := answer_block(part)) is not None]
    message["stop_reason"] = word
    message["stop_sequence"] = choice.stop_sequence or None
    # The provider's own object says more than totals can (web fetches, iterations).
    raw = answer.usage.raw if own else None
    message["usage"] = usage.write(answer.usage) if raw is None else raw
    return dumps(message | extra)


def head(*, id_: str, model: str, usage_: Json) -> Json:
    """A `message` before anything was written into it. Some providers give an answer no id (Bedrock, Ollama)."""
    return {
        "id": id_ or f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_,
    }


def read_stop(word: Any) -> tuple[StopReason, Json]:
    """(reason, extra): a word we do not know is kept under extra["stop_reason"]."""
    if isinstance(word, str) and word in _STOP_REASONS:
        return _STOP_REASONS[word], {}
    return "unknown", {"stop_reason": word} if isinstance(word, str) else {}


def stop_word(reason: StopReason, parts: Iterable[Part]) -> str:
    """This wire's word. What the parts show outweighs a bare "stop", which some providers say to tool calls too."""
    if reason in ("stop", "unknown"):
        for part in parts:
            if isinstance(part, ToolCallPart):
                return "tool_use"
            if isinstance(part, RefusalPart):
                return "refusal"
    return _STOP_WORDS.get(reason, "end_turn")


def answer_block(part: Part) -> Json | None:
    """A part of an answer as a content block; None for what a client of this wire could not have asked for."""
    match part:
        case TextPart():
            return blocks.text_block(part)
        case RefusalPart():
            return {"type": "text", "text": part.text}
        case ReasoningPart():
            return blocks.reasoning_block(part)
        case ToolCallPart():
            return blocks.tool_use_block(part)
        case ImagePart():
            # The wire has no image in an answer; Markdown keeps what was paid for.
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            return {"type": "text", "text": f"![image]({url})"}
        case OpaquePart():
            return part.value if part.wire == NAME else None
        case AudioPart() | FilePart() | ToolResultPart():
            return None


def served(message: Json) -> str:
    """The model that a `message` object says answered."""
    model = message.get("model")
    return model if isinstance(model, str) else ""


def _object(body: bytes) -> Json:
    try:
        raw = loads(body)
    except ValueError as error:
        raise MalformedAnswer("The provider's answer is not JSON.") from error
    if not isinstance(raw, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    return raw

"""Whole answers: the Converse API's object <-> the unified answer. It names neither itself nor its model."""

from __future__ import annotations

from typing import Any

from providers.counts import decode
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
from providers.wire.bedrock_converse import blocks, usage
from providers.wire.bedrock_converse.blocks import NAME, string
from providers.wire.bedrock_converse.errors import error_of_frame
from providers.wire.jsontext import dumps

_STOP_REASONS: dict[str, StopReason] = {
    "end_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "model_context_window_exceeded": "context_window",
}
_STOP_WORDS: dict[StopReason, str] = {
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "stop_sequence": "stop_sequence",
    "content_filter": "content_filtered",
    "refusal": "content_filtered",
    "context_window": "model_context_window_exceeded",
}
_READ = frozenset({"output", "stopReason", "usage", "serviceTier", "performanceConfig"})


def answer_object(body: bytes) -> Json:
    """The JSON object of a 200. Raises MalformedAnswer, or the provider's error where the 200 holds one."""
    try:
        value = decode(body)
    except ValueError as error:
        raise MalformedAnswer("The provider's answer is not JSON.") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    if "output" not in value and string(value.get("message")):
        raise error_of_frame(event=string(value.get("__type")), data=body)
    return value


def read_usage(body: bytes) -> tuple[Usage, str]:
    """(usage, served model) of a whole answer: the model that a prompt router chose, else none is named."""
    value = answer_object(body)
    return usage.read(value), served(value)


def served(value: Json) -> str:
    """The model that answered, where a prompt router chose it: the last step of its ARN."""
    trace = value.get("trace")
    router = trace.get("promptRouter") if isinstance(trace, dict) else None
    invoked = string(router.get("invokedModelId")) if isinstance(router, dict) else ""
    return invoked.rpartition("/")[2]


def decode_answer(body: bytes) -> Answer:
    """Raises MalformedAnswer, or the provider's error where a 200 holds one."""
    value = answer_object(body)
    output = value.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(message, dict):
        raise MalformedAnswer("The provider's answer has no message.")
    parts = tuple(blocks.read_parts(message.get("content")))
    return Answer(
        id="",
        model=served(value),
        choices=(Choice(parts=parts, stop_reason=stop_reason(value.get("stopReason"))),),
        usage=usage.read(value),
        extra={key: item for key, item in value.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def encode_answer(answer: Answer) -> bytes:
    """An answer of the Converse API. The wire holds one choice: a client of it cannot ask for more."""
    choice = answer.choices[0] if answer.choices else Choice(())
    content = [block for part in choice.parts if (block := answer_block(part)) is not None]
    body: Json = dict(answer.extra) if answer.wire == NAME else {"metrics": {"latencyMs": 0}}
    body["output"] = {"message": {"role": "assistant", "content": content}}
    body["stopReason"] = stop_word(choice.stop_reason, choice.parts)
    return dumps(body | usage.write(answer.usage))


def stop_reason(word: Any) -> StopReason:
    return _STOP_REASONS.get(string(word), "unknown")


def stop_word(reason: StopReason, parts: tuple[Part, ...]) -> str:
    """This wire's word. Calls of tools outweigh a bare "stop", which some providers say to them too."""
    if reason in ("stop", "unknown") and any(isinstance(part, ToolCallPart) for part in parts):
        return "tool_use"
    return _STOP_WORDS.get(reason, "end_turn")


def answer_block(part: Part) -> Json | None:
    """A part of an answer as a content block; None for what a client of this wire could not have asked for."""
    match part:
        case TextPart():
            return blocks.text_block(part)
        case RefusalPart():
            return {"text": part.text}
        case ReasoningPart():
            return blocks.reasoning_block(part)
        case ToolCallPart():
            return blocks.tool_use_block(part)
        case ImagePart():
            return blocks.image_block(part) or {"text": f"![image]({part.url})"}
        case OpaquePart():
            return part.value if part.wire == NAME else None
        case AudioPart() | FilePart() | ToolResultPart():
            return None

"""A whole answer of Ollama <-> the unified Answer, and what the lines of a stream share with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from providers.errors import MalformedAnswer
from providers.unified import Answer, Choice, Json, StopReason, ToolCallPart, Usage
from providers.wire.jsontext import dumps
from providers.wire.ollama import usage as usages
from providers.wire.ollama.parts import NAME, encode_message, read_parts
from providers.wire.openai_chat.parts import string
from providers.wire.unstreamed import answer_object

_READ = frozenset(
    {"model", "created_at", "message", "done", "done_reason", "prompt_eval_count", "eval_count", "logprobs"}
)
_STOP_REASONS: dict[str, StopReason] = {"stop": "stop", "length": "length"}
_LENGTH = ("length", "context_window")


def read_usage(body: bytes) -> tuple[Usage, str]:
    """Usage and served model of a whole answer, of /api/chat or /api/generate."""
    value = answer_object(body)
    return usages.read(value), string(value.get("model"))


def decode_answer(body: bytes) -> Answer:
    """Raises MalformedAnswer, or the provider's error where a 200 holds one."""
    value = answer_object(body)
    message = value.get("message")
    if not isinstance(message, dict):
        raise MalformedAnswer("The provider's answer has no 'message'.")
    parts = tuple(read_parts(message))
    called = any(isinstance(part, ToolCallPart) for part in parts)
    reason = stop_reason(value.get("done_reason"), called_tools=called)
    return Answer(
        id="",
        model=string(value.get("model")),
        choices=(Choice(parts=parts, stop_reason=reason, logprobs=logprobs_of(value)),),
        usage=usages.read(value),
        created=created_of(value),
        extra={key: item for key, item in value.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def stop_reason(word: Any, *, called_tools: bool) -> StopReason:
    """Ollama says "stop" after calls of tools, too."""
    reason = _STOP_REASONS.get(string(word), "unknown")
    return "tool_calls" if called_tools and reason != "length" else reason


def logprobs_of(value: Json) -> Json | None:
    """A list whose entries are those of OpenAI's `content`."""
    items = value.get("logprobs")
    found = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return {"content": found} if found else None


def created_of(value: Json) -> int:
    """`created_at` in whole seconds since 1970; 0 where it is no time."""
    try:
        return int(datetime.fromisoformat(string(value.get("created_at"))).timestamp())
    except (ValueError, OverflowError):
        return 0


# --- encode -----------------------------------------------------------------------------------------------


def encode_answer(answer: Answer) -> bytes:
    """An answer of /api/chat: the first choice, since this wire has no other."""
    choice = answer.choices[0] if answer.choices else Choice(parts=())
    own = dict(answer.extra) if answer.wire == NAME else {}
    body = own | head(model=answer.model, created=answer.created) | {"message": encode_message(choice.parts)}
    if choice.logprobs:
        body["logprobs"] = choice.logprobs.get("content")
    return dumps(body | tail(choice.stop_reason, answer.usage))


def head(*, model: str, created: int) -> Json:
    """What every line begins with. `created`: seconds since 1970; 0 for now."""
    at = datetime.fromtimestamp(created, UTC) if created else datetime.now(UTC)
    return {"model": model, "created_at": at.isoformat().replace("+00:00", "Z")}


def tail(reason: StopReason, usage: Usage) -> Json:
    """What the last line ends with."""
    return {"done": True, "done_reason": "length" if reason in _LENGTH else "stop", **usages.write(usage)}

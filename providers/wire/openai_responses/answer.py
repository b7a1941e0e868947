"""A whole response object <-> the unified Answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

from providers.counts import decode, decode_exact
from providers.errors import MalformedAnswer
from providers.unified import (
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
from providers.wire.openai_chat.errors import error_from
from providers.wire.openai_chat.parts import epoch_s
from providers.wire.openai_responses import usage as usages
from providers.wire.openai_responses.errors import error_of_response
from providers.wire.openai_responses.items import decode_made
from providers.wire.openai_responses.parts import NAME, encode_output_text, string
from providers.wire.openai_responses.usage import Dialect

_READ = frozenset(
    {"id", "object", "created_at", "model", "output", "usage", "service_tier", "status", "incomplete_details", "error"}
)
# Items by which the model asks the client to do something.
_CALLS = frozenset(
    {"custom_tool_call", "computer_call", "local_shell_call", "apply_patch_call", "mcp_approval_request"}
)
_INCOMPLETE: dict[str, StopReason] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}
_DETAILS: dict[StopReason, str] = {
    "length": "max_output_tokens",
    "context_window": "max_output_tokens",
    "content_filter": "content_filter",
}


def answer_object(body: bytes) -> Json:
    """The response object of a 200. Raises MalformedAnswer, or the provider's error where the 200 is one."""
    try:
        value = decode(body)
    except ValueError as error:
        raise MalformedAnswer("The provider's answer is not JSON.") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    if value.get("error") and not value.get("status"):
        raise error_from(value, status=None)
    return value


def read_usage(body: bytes, *, dialect: Dialect) -> tuple[Usage, str]:
    """Usage and served model of a whole answer, also of one that failed or was cut short."""
    value = answer_object(body)
    return usages.read(value, exact=decode_exact(body), dialect=dialect), string(value.get("model"))


def decode_answer(body: bytes, *, dialect: Dialect) -> Answer:
    """Raises MalformedAnswer, or the provider's own error where the response failed."""
    value = answer_object(body)
    if value.get("status") == "failed":
        raise error_of_response(value)
    output = value.get("output")
    if not isinstance(output, list):
        raise MalformedAnswer("The provider's answer has no 'output'.")
    return Answer(
        id=string(value.get("id")),
        model=string(value.get("model")),
        choices=(Choice(parts=tuple(_parts(output)), stop_reason=stop_reason(value)),),
        usage=usages.read(value, exact=decode_exact(body), dialect=dialect),
        created=epoch_s(value.get("created_at")),
        extra={key: item for key, item in value.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def _parts(output: list[Any]) -> Iterable[Part]:
    for item in output:
        if isinstance(item, dict):
            yield from decode_made(item)


def stop_reason(response: Json) -> StopReason:
    """Why a response ended, by its status and what it asks of the client."""
    status = response.get("status")
    if status == "incomplete":
        details = response.get("incomplete_details")
        return _INCOMPLETE.get(string(details.get("reason")) if isinstance(details, dict) else "", "unknown")
    if status not in ("completed", None):
        return "unknown"
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        kind = string(item.get("type")) if isinstance(item, dict) else ""
        if kind == "function_call" or kind in _CALLS:
            return "tool_calls"
    return "stop"


# --- encode -------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer) -> bytes:
    """A response object that OpenAI's own client types accept. It holds one choice: a client cannot ask for more."""
    choice = answer.choices[0] if answer.choices else Choice(())
    body = head(id_=answer.id, model=answer.model, created=answer.created)
    if answer.wire == NAME:
        body |= answer.extra
    body |= ending(choice.stop_reason, answer.usage)
    output = [item for item in map(encode_item, choice.parts) if item is not None]
    body["output"] = [_ended(item, body["status"]) for item in output]
    return dumps(body)


def head(*, id_: str, model: str, created: int) -> Json:
    """A response before anything was written into it; the fields are those that OpenAI's types demand."""
    return {
        "id": id_ or new_id("resp"),
        "object": "response",
        "created_at": created or int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def ending(reason: StopReason, usage: Usage) -> Json:
    """What the end of an answer adds to its response object."""
    detail = _DETAILS.get(reason)
    ended: Json = {"status": "incomplete" if detail else "completed"}
    ended["incomplete_details"] = {"reason": detail} if detail else None
    if usage.totals:
        ended["usage"] = usages.write(usage)
    tier = usages.known_tier(usage)
    if tier:
        ended["service_tier"] = tier
    return ended


def new_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


def encode_item(part: Part) -> Json | None:
    """A part of an answer as an item of its own; None for what a client of this wire could not have asked for."""
    match part:
        case TextPart():
            return _message(encode_output_text(part))
        case RefusalPart():
            return _message({"type": "refusal", "refusal": part.text})
        case ReasoningPart():
            return _reasoning(part)
        case ToolCallPart():
            call = {"call_id": part.id, "name": part.name, "arguments": part.arguments or "{}"}
            return {"type": "function_call", "id": new_id("fc"), "status": "completed", **call}
        case ImagePart() if part.data:
            return {"type": "image_generation_call", "id": new_id("ig"), "status": "completed", "result": part.data}
        case ImagePart():
            return _message(encode_output_text(TextPart(text=f"![image]({part.url})")))
        case OpaquePart() if part.wire == NAME:
            return part.value if part.value.get("type") != "message" and "type" in part.value else None
    return None


def _message(content: Json) -> Json:
    return {"type": "message", "id": new_id("msg"), "status": "completed", "role": "assistant", "content": [content]}


def _reasoning(part: ReasoningPart) -> Json:
    item: Json = {"type": "reasoning", "id": new_id("rs"), "summary": []}
    if part.text:
        item["summary"] = [{"type": "summary_text", "text": part.text}]
    if part.signature or part.redacted:
        item["encrypted_content"] = part.signature or part.redacted
    return item


def _ended(item: Json, status: str) -> Json:
    """A message of a response that was cut short is itself incomplete."""
    return {**item, "status": "incomplete"} if status == "incomplete" and item.get("type") == "message" else item

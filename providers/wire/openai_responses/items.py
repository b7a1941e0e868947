"""Items of the responses wire <-> unified messages.

A conversation here is a flat list: messages, reasoning, calls of tools and their outputs are items side by side. What
the model made in one turn (reasoning, text, calls) is one assistant message in the unified types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from providers.errors import InvalidRequest
from providers.unified import (
    FilePart,
    ImagePart,
    Json,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.wire.jsontext import dumps
from providers.wire.openai_responses.parts import NAME, decode_content, string

_MESSAGE_FIELDS = frozenset({"type", "role", "content", "id", "status", "phase"})
_CALL_FIELDS = frozenset({"type", "id", "call_id", "name", "arguments", "status"})
_OUTPUT_FIELDS = frozenset({"type", "id", "call_id", "output", "status"})
_REASONING_FIELDS = frozenset({"type", "id", "summary", "content", "encrypted_content", "status"})
# Answers of the client to calls of a type that only this wire has.
_ANSWERS = ("_output", "_approval_response")


def decode_items(items: list[Any]) -> Iterator[Message]:
    """The messages of an `input` list. Raises InvalidRequest with the path of what cannot be read."""
    made: list[Part] = []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise InvalidRequest(f"An item is an object, at '$.input[{index}]'.", param=f"$.input[{index}]")
        role, parts = _decode(item, f"$.input[{index}]")
        if role == "assistant":
            made += parts
            continue
        if made:
            yield Message(role="assistant", parts=tuple(made))
            made = []
        yield Message(role=role, parts=tuple(parts))
    if made:
        yield Message(role="assistant", parts=tuple(made))


def _decode(item: Json, path: str) -> tuple[Role, list[Part]]:
    kind = string(item.get("type")) or "message"
    if kind == "message":
        return _message(item, path)
    result = _tool_result(item) if kind == "function_call_output" and not unknown(item, _OUTPUT_FIELDS) else None
    if result is not None:
        return "tool", [result]
    if kind.endswith(_ANSWERS):
        return "tool", [OpaquePart(wire=NAME, value=item)]
    return "assistant", decode_made(item)


def unknown(item: Json, fields: frozenset[str]) -> bool:
    return any(value is not None for key, value in item.items() if key not in fields)


def _message(item: Json, path: str) -> tuple[Role, list[Part]]:
    role = item.get("role")
    if role not in ("user", "assistant", "system", "developer"):
        raise InvalidRequest(f"An item needs a known 'type' or 'role', at {path!r}.", param=f"{path}.role")
    if unknown(item, _MESSAGE_FIELDS):
        return role, [OpaquePart(wire=NAME, value={**item, "type": "message"})]
    return role, decode_content(item.get("content"))


def _tool_result(item: Json) -> ToolResultPart | None:
    """None for an output that holds more than text, and images and files that are sent along."""
    parts: list[TextPart | ImagePart | FilePart] = []
    output = item.get("output")
    if isinstance(output, dict):
        output = dumps(output).decode()
    for part in decode_content(output):
        if not isinstance(part, TextPart | ImagePart | FilePart):
            return None
        parts.append(part)
    return ToolResultPart(id=string(item.get("call_id")), parts=tuple(parts))


def decode_made(item: Json) -> list[Part]:
    """The parts of an item that the model made: of an answer, or of an earlier turn of the assistant."""
    kind = item.get("type")
    if kind == "message" and not unknown(item, _MESSAGE_FIELDS):
        return decode_content(item.get("content"))
    if kind == "function_call" and not unknown(item, _CALL_FIELDS):
        return [
            ToolCallPart(
                id=string(item.get("call_id")) or string(item.get("id")),
                name=string(item.get("name")),
                arguments=arguments_text(item.get("arguments")),
            )
        ]
    if kind == "reasoning" and not unknown(item, _REASONING_FIELDS):
        return [decode_reasoning(item)]
    return [OpaquePart(wire=NAME, value=item)]


def decode_reasoning(item: Json) -> ReasoningPart:
    """Thoughts in full where a server shows them, else their summary; the encrypted ones are the signature."""
    text = "\n\n".join(_texts(item.get("content"))) or "\n\n".join(_texts(item.get("summary")))
    return ReasoningPart(text=text, signature=string(item.get("encrypted_content")))


def _texts(values: Any) -> list[str]:
    found = values if isinstance(values, list) else ()
    return [value["text"] for value in found if isinstance(value, dict) and string(value.get("text"))]


def arguments_text(arguments: Any) -> str:
    """Some servers send the arguments as an object instead of its JSON text."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else dumps(arguments).decode()


def encode_reasoning(part: ReasoningPart) -> Json:
    """A reasoning item without an id: one that a server keeps no record of is known by its encrypted content alone."""
    said = [part.text] if part.text else []
    if part.signature:
        summary = [{"type": "summary_text", "text": text} for text in said]
        return {"type": "reasoning", "summary": summary, "encrypted_content": part.signature}
    content = [{"type": "reasoning_text", "text": text} for text in said]
    return {"type": "reasoning", "summary": [], "content": content}


def encode_call(part: ToolCallPart) -> Json:
    return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}

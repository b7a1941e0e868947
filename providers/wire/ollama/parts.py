"""A message of Ollama's chat <-> unified parts: thoughts, text and calls of tools, each in a field of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec

from providers.unified import Json, Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart
from providers.wire.openai_chat.parts import string
from providers.wire.openai_chat.request_in import arguments_text

NAME = "ollama_chat"


def read_parts(message: Json) -> Iterator[Part]:
    """What a message, or the piece of one in a line, holds, in the order in which a model makes it."""
    thought, text = string(message.get("thinking")), string(message.get("content"))
    if thought:
        yield ReasoningPart(text=thought)
    if text:
        yield TextPart(text=text)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield ToolCallPart(
                # Older servers give a call no id, and a client needs one to answer it by.
                id=string(call.get("id")) or f"call_{uuid.uuid4().hex[:24]}",
                name=string(function.get("name")),
                arguments=arguments_text(function.get("arguments")) or "{}",
            )


def encode_message(parts: tuple[Part, ...]) -> Json:
    """An assistant's message in an answer; what this wire has no field for is what no client of it can ask for."""
    said = [part.text for part in parts if isinstance(part, TextPart | RefusalPart)]
    thoughts = [part.text for part in parts if isinstance(part, ReasoningPart) and part.text]
    calls = [encode_call(part) for part in parts if isinstance(part, ToolCallPart)]
    message: Json = {"role": "assistant", "content": "".join(said)}
    if thoughts:
        message["thinking"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def encode_call(part: ToolCallPart) -> Json:
    return {"id": part.id, "function": {"name": part.name, "arguments": _object(part.arguments)}}


def _object(text: str) -> Json:
    """Arguments are an object on this wire; what a model wrote wrongly stays readable for it."""
    try:
        value = msgspec.json.decode(text) if text else {}
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": text}
